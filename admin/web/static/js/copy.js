// Copies a text to the clipboard and says so. The buttons are hidden until this script is there to serve them.
const SAID_MS = 2000;

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  const visible = [...source.querySelectorAll("pre")].find((text) => text.offsetParent !== null);
  await navigator.clipboard.writeText((visible ?? source).textContent.trim());
  const label = button.querySelector("[data-label]");
  const before = label.textContent;
  if (before === button.dataset.done) return;
  label.textContent = button.dataset.done;
  setTimeout(() => {
    label.textContent = before;
  }, SAID_MS);
}

function wire(root) {
  for (const button of root.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button));
  }
}

wire(document);
// A part of the page that another script has put there says so with this event.
document.addEventListener("part:shown", (event) => wire(event.target));
