// Light, dark, or as the system says. Runs before the first paint, so that nothing flashes.
(() => {
  const choices = ["auto", "light", "dark"];
  const kept = localStorage.getItem("theme");
  let theme = choices.includes(kept) ? kept : "auto";
  const apply = () => {
    document.documentElement.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (button) button.textContent = `Theme: ${theme}`;
  };
  apply();
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    document.getElementById("theme").addEventListener("click", () => {
      theme = choices[(choices.indexOf(theme) + 1) % choices.length];
      localStorage.setItem("theme", theme);
      apply();
    });
  });
})();
