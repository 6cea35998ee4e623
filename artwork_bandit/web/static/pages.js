// Numbers and times as the reader writes them. Without it they are plain and in UTC.
const number = new Intl.NumberFormat();
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeZone: "UTC" });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const zone = new Intl.DateTimeFormat(undefined, { timeZoneName: "short" });

function zoneOf(date) {
  return zone.formatToParts(date).find((part) => part.type === "timeZoneName")?.value ?? "";
}

function localise(root) {
  for (const each of root.querySelectorAll("data[value]")) {
    each.textContent = number.format(Number(each.value));
  }
  for (const each of root.querySelectorAll("time[datetime]")) {
    const date = new Date(each.dateTime);
    each.textContent = each.dateTime.length === 10
      ? day.format(date) : `${moment.format(date)} ${zoneOf(date)}`;
    each.title = each.dateTime;
  }
}

// A picture that cannot be loaded says so, instead of looking like nothing.
function say(picture) {
  const instead = document.createElement("span");
  instead.className = "nopicture";
  instead.textContent = "picture cannot be loaded";
  instead.title = picture.src;
  picture.replaceWith(instead);
}

document.addEventListener("error", (event) => {
  if (event.target.matches?.("img[data-picture]")) say(event.target);
}, true);
for (const each of document.querySelectorAll("img[data-picture]")) {
  if (!each.complete || each.naturalWidth > 0) continue;
  const again = new Image();  // it may have failed before anybody listened, or have no size
  again.onerror = () => say(each);
  again.src = each.src;
}

localise(document);
document.addEventListener("htmx:load", (event) => localise(event.detail.elt));
