// Tell the server in which zone the times of a form are: the minutes from UTC, at the time that was typed.
const zone = document.querySelector("[data-zone]");
if (zone) {
  const form = zone.form;
  form.addEventListener("submit", () => {
    const typed = form.elements.from?.value || form.elements.until?.value;
    zone.value = typed ? String(new Date(typed).getTimezoneOffset()) : "";
    // what is empty is no part of the address
    for (const field of form.elements) if (field.name && field.value === "") field.disabled = true;
  });
  addEventListener("pageshow", () => {
    for (const field of form.elements) field.disabled = false;
  });
}
