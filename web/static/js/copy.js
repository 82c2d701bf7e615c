// @ts-check
// A button that copies what is shown once.

const button = document.querySelector("button[data-copy]");
const source = document.querySelector("input[data-copy-source]");
if (button instanceof HTMLButtonElement && source instanceof HTMLInputElement && navigator.clipboard !== undefined) {
  button.hidden = false;
  button.addEventListener("click", () => {
    source.select();
    void navigator.clipboard.writeText(source.value).then(() => {
      button.textContent = `✓ ${button.textContent?.replace("✓ ", "") ?? ""}`;
    });
  });
}
