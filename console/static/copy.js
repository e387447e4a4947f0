// Copy the text of a button with data-copy.
export function keepCopying() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
    } catch {
      // no clipboard without TLS, but on this machine: select the text, so that the viewer copies it
      getSelection().selectAllChildren(button.previousElementSibling);
      return;
    }
    button.classList.add("is-copied");
    setTimeout(() => button.classList.remove("is-copied"), 1500);
  });
}
