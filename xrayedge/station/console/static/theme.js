// Blocking and small, so that the first paint has the right colours.
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const chosen = root.dataset.chosen ?? "auto";
    root.dataset.theme = chosen === "auto" ? (dark.matches ? "dark" : "light") : chosen;
  };
  try {
    root.dataset.chosen = localStorage.getItem("theme") ?? "auto";
  } catch {
    // A browser that keeps nothing follows the system.
  }
  apply();
  dark.addEventListener("change", apply);
  addEventListener("theme", apply);
})();
