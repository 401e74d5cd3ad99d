// Paper is white: a page in dark mode is printed as a light one.
(() => {
  const page = document.documentElement;
  let shown;
  window.addEventListener("beforeprint", () => {
    shown = page.dataset.theme;
    page.dataset.theme = "light";
  });
  window.addEventListener("afterprint", () => { page.dataset.theme = shown; });
})();
// Opened as files, with no server, a search finds pages but may not read them for excerpts.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}
