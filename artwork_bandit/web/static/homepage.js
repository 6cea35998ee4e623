// The demo homepage: rows of titles whose pictures the service chooses for a member one can switch.
import { ArtworkBandit } from "./artwork-bandit.js";

const member = document.querySelector("#member");
const said = document.querySelector("#said");
const why = document.querySelector("#why");
const tiles = [...document.querySelectorAll("[data-title]")];
let bandit = null;

async function show() {
  bandit?.close();
  bandit = new ArtworkBandit({ member: member.value, timeout: 3000 });
  const here = bandit;
  const titles = [...new Set(tiles.map((tile) => tile.dataset.title))];
  const begun = performance.now();
  const choices = await here.choose(titles, { context: { device: "web", surface: "homepage" } });
  if (here !== bandit) return; // switched meanwhile
  const chosen = new Map(choices.map((choice) => [choice.title_id, choice]));
  for (const tile of tiles) {
    const choice = chosen.get(tile.dataset.title);
    const image = tile.querySelector("img");
    image.hidden = !choice.uri;
    if (choice.uri) image.src = choice.uri;
    tile.dataset.variant = choice.variant_id ?? "";
    tile.choice = choice;
    tile.classList.remove("played");
    here.observe(tile.querySelector(".play"), choice);
  }
  const fallbacks = choices.filter((choice) => choice.fallback).length;
  said.textContent = fallbacks === choices.length ? "The service did not answer: default pictures."
    : `${choices.length} pictures chosen in ${Math.round(performance.now() - begun)} ms.`;
}

for (const tile of tiles) {
  tile.querySelector(".play").addEventListener("click", () => {
    bandit.event("play", tile.choice, { seconds_watched: 2700, duration_seconds: 3000 });
    tile.classList.add("played");
    said.textContent = `Played ${tile.dataset.name}. The next visit knows.`;
  });
  tile.querySelector(".ask").addEventListener("click", () => explain(tile));
}

async function explain(tile) {
  const id = tile.choice?.decision_id;
  const response = id && (await fetch(`/v1/decisions/${encodeURIComponent(id)}`).catch(() => null));
  const found = response?.ok ? await response.json() : null;
  why.querySelector("h2").textContent = tile.dataset.name;
  const lines = why.querySelector("ul");
  lines.replaceChildren();
  const say = (text) => lines.append(Object.assign(document.createElement("li"), { textContent: text }));
  if (!found) say("Nothing is known of this choice.");
  else {
    const share = found.propensity === null ? "by default" : `with probability ${(found.propensity * 100).toFixed(0)}%`;
    say(`${found.variant_id ?? "Nothing"} of ${found.action_set?.length ?? 0} pictures, ${share}.`);
    say(found.model_version === null ? `Policy ${found.policy}, cell ${found.cell}.`
      : `Model ${found.model_version}, cell ${found.cell}.`);
    for (const reason of found.explanation?.reasons.slice(0, 4) ?? []) {
      say(`${reason.context} \u00d7 ${reason.variant}: ${reason.value > 0 ? "+" : "\u2212"}${Math.abs(reason.value).toFixed(4)}`);
    }
    if (found.explanation) say(found.explanation.same ? "Made again from the log: the same." : "Made again from the log: NOT the same.");
    else say(`Not explained: ${found.not_explained}.`);
  }
  why.showModal();
}

why.querySelector("button").addEventListener("click", () => why.close());
member.addEventListener("change", show);
show();
