// What can be scrolled can be reached by keyboard, a button beside a block of code is no landmark, the search has a name.
addEventListener("load", () => {
  for (const part of document.querySelectorAll("pre code, .md-typeset__scrollwrap")) part.tabIndex = 0;
  for (const bar of document.querySelectorAll(".md-code__nav")) bar.setAttribute("role", "none");
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
});
