// Switch between light and dark; a cookie keeps the choice, so that the server writes it into the next page.
export function keepTheme() {
  const root = document.documentElement;
  for (const button of document.querySelectorAll("[data-theme-switch]")) {
    button.addEventListener("click", () => {
      const systemIsDark = matchMedia("(prefers-color-scheme: dark)").matches;
      const isDark = root.dataset.theme === "dark" || (root.dataset.theme === "auto" && systemIsDark);
      root.dataset.theme = isDark ? "light" : "dark";
      document.cookie = `theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=strict`;
      document.dispatchEvent(new CustomEvent("theme"));
    });
  }
}
