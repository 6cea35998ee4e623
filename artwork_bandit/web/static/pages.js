// Numbers and times as the reader writes them. Without it they are plain and in UTC.
const number = new Intl.NumberFormat();
const shares = new Map();  // digits -> a format
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeZone: "UTC" });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const zone = new Intl.DateTimeFormat(undefined, { timeZoneName: "short" });

function zoneOf(date) {
  return zone.formatToParts(date).find((part) => part.type === "timeZoneName")?.value ?? "";
}

function share(text, sign, whole, part) {
  const digits = part ? part.length - 1 : 0;
  const key = `${sign ? "+" : ""}${digits}`;
  if (!shares.has(key)) {
    shares.set(key, new Intl.NumberFormat(undefined, {
      style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits,
      signDisplay: sign ? "always" : "auto",
    }));
  }
  return shares.get(key).format(Number(sign + whole + (part ?? "")) / 100);
}

// Shares and days in running text and in charts; what people typed stays as it is.
function localiseText(root) {
  const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const each = texts.currentNode;
    if (each.parentElement?.closest("code, pre, textarea, script, style, time, data, ins, del")) {
      continue;
    }
    if (each.data.includes("%")) {
      each.data = each.data.replace(/(?<![\w.,])([+-]?)(\d+)(\.\d+)?%/g, share);
    } else if (/^\d{4}-\d\d-\d\d$/.test(each.data)) {
      each.data = day.format(new Date(each.data));
    }
  }
}

function localise(root) {
  localiseText(root);
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

// A list that could not be renewed is not what was asked for.
function tell() {
  const found = document.querySelector("#found");
  if (!found || found.querySelector(".stale")) return;
  const said = document.createElement("p");
  said.className = "warn stale";
  said.setAttribute("role", "alert");
  said.textContent = "⚠ The server did not answer: below is what was asked for before. Try again.";
  found.prepend(said);
}
for (const event of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(event, tell);
}

localise(document.body);
document.addEventListener("htmx:load", (event) => {
  if (event.detail.elt !== document.body) localise(event.detail.elt);
});
