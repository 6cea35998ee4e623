// The demo homepage: rows of titles whose pictures the service chooses for a member one can switch.
// A preview logs and reports nothing; the `demo` command's page does as a real one would.
import { ArtworkBandit } from "./artwork-bandit.js";

const member = document.querySelector("#member");
const said = document.querySelector("#said");
const why = document.querySelector("#why");
const tiles = [...document.querySelectorAll("[data-title]")];
const preview = document.querySelector("#homepage").dataset.preview !== undefined;
const context = { device: "web", surface: "homepage" };
let bandit = null;

async function show() {
  bandit?.close();
  if (!tiles.length || !member.value.trim()) {
    said.textContent = tiles.length ? "Say whose homepage it is." : "";
    return;
  }
  bandit = new ArtworkBandit({ member: member.value, timeout: 3000 });
  const here = bandit;
  const titles = [...new Set(tiles.map((tile) => tile.dataset.title))];
  const begun = performance.now();
  const choices = await here.choose(titles, { context, preview });
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
    if (!preview) here.observe(tile.querySelector(".play"), choice);
  }
  const unanswered = choices.every((choice) => choice.reason === "unreachable");
  said.textContent = unanswered ? "The service did not answer: default pictures."
    : `${choices.length} pictures chosen in ${Math.round(performance.now() - begun)} ms.`;
}

for (const tile of tiles) {
  tile.querySelector(".play").addEventListener("click", () => {
    if (preview) {
      said.textContent = "A preview: nothing is reported.";
      return;
    }
    bandit.event("play", tile.choice, { seconds_watched: 2700, duration_seconds: 3000 });
    tile.classList.add("played");
    said.textContent = `Played ${tile.dataset.name}. The next visit knows.`;
  });
  tile.querySelector(".ask").addEventListener("click", () => explain(tile));
}

// What is in no log is chosen once more, and comes out the same unless what serves has changed.
async function again(tile) {
  const [found] = await bandit.choose([tile.dataset.title], { context, preview, explain: true });
  return found.explanation ? found : null;
}

async function logged(tile) {
  const id = tile.choice?.decision_id;
  const response = id && (await fetch(`/v1/decisions/${encodeURIComponent(id)}`).catch(() => null));
  return response?.ok ? await response.json() : null;
}

async function explain(tile) {
  const found = await (preview ? again : logged)(tile);
  why.querySelector("h2").textContent = tile.dataset.name;
  const lines = why.querySelector("ul");
  lines.replaceChildren();
  const say = (text) => lines.append(Object.assign(document.createElement("li"), { textContent: text }));
  if (!found) say("Nothing is known of this choice.");
  else {
    const share = found.propensity === null ? "by default" : `with probability ${(found.propensity * 100).toFixed(0)}%`;
    const of = found.action_set ?? found.explanation?.variants ?? [];
    say(`${found.variant_id ?? "Nothing"} of ${of.length} pictures, ${share}.`);
    if (found.policy) say(found.model_version === null ? `Policy ${found.policy}, cell ${found.cell}.`
      : `Model ${found.model_version}, cell ${found.cell}.`);
    for (const reason of found.explanation?.reasons.slice(0, 4) ?? []) {
      say(`${reason.context} \u00d7 ${reason.variant}: ${reason.value > 0 ? "+" : "\u2212"}${Math.abs(reason.value).toFixed(4)}`);
    }
    if (preview && found.variant_id !== tile.choice.variant_id) say("Chosen anew just now: what serves has changed.");
    else if (preview) say("A preview: in no log.");
    else if (found.explanation) say(found.explanation.same ? "Made again from the log: the same." : "Made again from the log: NOT the same.");
    else say(`Not explained: ${found.not_explained}.`);
  }
  why.showModal();
}

why.querySelector("button").addEventListener("click", () => why.close());
member.addEventListener("change", show);
show();
