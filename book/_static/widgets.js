// Widget modules and their fonts come from this site, whatever page asks for them.
window.requirejs.config({
  baseUrl: `${document.documentElement.dataset.content_root || "./"}_static/vendor/widgets`,
});
// The widget player speaks to MathJax 2's queue; the site has MathJax 3.
window.addEventListener("load", () => {
  const math = window.MathJax;
  if (!math || math.Hub) return;
  math.Hub = {
    Queue: (...jobs) => jobs.forEach(([name, , element]) => {
      if (name === "Typeset" && math.typesetPromise) math.typesetPromise([element]);
    }),
  };
});
