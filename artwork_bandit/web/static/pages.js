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

localise(document);
document.addEventListener("htmx:load", (event) => localise(event.detail.elt));
