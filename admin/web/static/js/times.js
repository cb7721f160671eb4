// Writes moments in the reader's own zone, and keeps UTC in the title. Without this script they are shown in UTC.
const page = document.documentElement.lang;
const language = navigator.language.startsWith(page) ? navigator.language : page;
const format = new Intl.DateTimeFormat(language, {
  dateStyle: "medium",
  timeStyle: "short",
});
const zone = new Intl.DateTimeFormat(language, { timeZoneName: "short" });

function zoneName(moment) {
  return zone.formatToParts(moment).find((part) => part.type === "timeZoneName").value;
}

function localise(root) {
  for (const element of root.querySelectorAll("time[data-local]")) {
    const moment = new Date(element.dateTime);
    element.textContent = `${format.format(moment)} ${zoneName(moment)}`;
    element.removeAttribute("data-local");
  }
}

localise(document);
document.addEventListener("htmx:afterSwap", (event) => localise(event.target));
