// Show what an action would do in a dialog, instead of a page of its own.
export function keepDialog() {
  const dialog = document.getElementById("dialog");
  document.body.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id === "dialog-body" && !dialog.open) dialog.showModal();
  });
  // an error has a page of its own: send the form as if there were no script
  document.body.addEventListener("htmx:responseError", (event) => {
    const form = event.detail.elt;
    if (form.tagName === "FORM" && event.detail.requestConfig.verb === "post") form.submit();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close]")) {
      event.preventDefault();
      dialog.close();
    }
  });
  dialog.addEventListener("submit", (event) => {
    for (const button of event.target.querySelectorAll("button[type=submit]")) button.disabled = true;
  });
}
