// The playground: sends the form to the portal's relay, writes the answer as it comes, and shows what the ledger says.
// Without this script the same form is answered with a page.
const CODE_DELAY_MS = 350;
const RECEIPT_EVERY_MS = 700;
const RECEIPT_TRIES = 90;

const form = document.getElementById("prompt");
const page = document.getElementById("playground");
const turns = document.getElementById("turns");
const problem = document.getElementById("problem");
const receipt = document.getElementById("receipt");
const month = document.getElementById("month");
const code = document.getElementById("code");
const send = document.getElementById("send");
const stop = document.getElementById("stop");
let running = null;

function say(name, count) {
  const text = document.getElementById("says").content.querySelector(`[data-say="${name}"]`).textContent;
  receipt.replaceChildren(paragraph(text.replace("{count}", count)));
}

function paragraph(text) {
  const element = document.createElement("p");
  element.className = "soft";
  element.textContent = text;
  return element;
}

function addTurn(role) {
  turns.append(document.getElementById("turn-template").content.cloneNode(true));
  const turn = turns.lastElementChild;
  turn.querySelector("select").value = role;
  wireTurn(turn);
  return turn.querySelector("textarea");
}

function wireTurn(turn) {
  const remove = turn.querySelector("[data-remove]");
  remove.hidden = false;
  remove.addEventListener("click", () => {
    turn.remove();
    if (!turns.children.length) addTurn("user");
    turns.lastElementChild.querySelector("textarea").focus();
    writeCodeSoon();
  });
}

function body() {
  return new URLSearchParams(new FormData(form));
}

function post(path, content, signal) {
  return fetch(path, { method: "POST", body: content, redirect: "manual", signal });
}

// ------------------------------------------------------------------ an answer

async function run() {
  problem.replaceChildren();
  const content = body();
  running = new AbortController();
  const { signal } = running;
  turnOn(true);
  say("waiting");
  const answer = { responseId: null, text: null, failed: false };
  try {
    await take(await post("/playground/run", content, signal), answer);
  } catch (error) {
    if (!signal.aborted) {
      receipt.replaceChildren();
      tell("offline");
      answer.failed = true;
    }
  }
  running = null;
  turnOn(false);
  if (answer.text) addTurn("user").focus();
  if (answer.responseId) await showReceipt(answer.responseId, answer.failed);
  else if (signal.aborted) say("stopped");
  else if (answer.failed) receipt.replaceChildren();
  writeCodeSoon();
}

async function take(response, answer) {
  const type = response.headers.get("content-type") ?? "";
  if (type.startsWith("text/event-stream")) {
    for await (const event of events(response.body)) handle(event, answer);
  } else if (type.startsWith("application/json")) {
    const found = await response.json();
    if (found.error) refuse(response.status, found.error, found, answer);
    else whole(found, answer);
  } else {
    answer.failed = true;
    tell(response.status === 413 ? "large" : "away");
  }
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    const lines = rest.split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: {")) yield JSON.parse(line.slice(6));
    }
  }
}

function handle(event, answer) {
  if (event.response) answer.responseId = event.response.id;
  if (event.type === "response.output_text.delta") {
    answer.text ??= open();
    answer.text.value += event.delta;
    answer.count = (answer.count ?? 0) + 1;
    say("writing", answer.count);
  }
  const error = event.type === "error" ? event.error : event.response?.error;
  if (error) refuse("", error, event, answer);
}

function whole(response, answer) {
  answer.responseId = response.id;
  const parts = response.output.flatMap((item) => item.content ?? []);
  answer.text = open();
  answer.text.value = parts.map((part) => part.text ?? "").join("");
}

function open() {
  const text = addTurn("assistant");
  text.scrollIntoView({ block: "nearest" });
  return text;
}

// ------------------------------------------------------------------ what went wrong

function refuse(status, error, found, answer) {
  answer.failed = true;
  const box = document.getElementById("refusal-template").content.cloneNode(true);
  const known = document.getElementById("words").content.querySelector(`[data-code="${error.code}"]`);
  fill(box, "code", `${status} ${error.code}`.trim());
  fill(box, "words", known ? known.textContent : "");
  fill(box, "message", error.message);
  fill(box, "body", JSON.stringify(found, null, 2));
  problem.replaceChildren(box);
}

function fill(box, part, text) {
  const element = box.querySelector(`[data-part="${part}"]`);
  element.textContent = text;
  element.hidden = text === "";
}

function tell(name) {
  const text = document.getElementById("says").content.querySelector(`[data-say="${name}"]`).textContent;
  const box = document.createElement("div");
  box.className = "alert alert-bad";
  box.setAttribute("role", "alert");
  box.append(paragraph(text));
  box.firstElementChild.className = "";
  problem.replaceChildren(box);
}

// ------------------------------------------------------------------ what it cost

async function showReceipt(responseId, failed) {
  const digits = responseId.slice("resp_".length, "resp_".length + 32);
  const request = digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  say("counting");
  for (let tries = 0; tries < RECEIPT_TRIES && !running; tries += 1) {
    const response = await fetch(`/playground/receipt/${request}`, { redirect: "manual" });
    if (response.status === 200) {
      receipt.innerHTML = await response.text();
      const used = receipt.querySelector("[data-month]");
      month.replaceChildren(...used.children);
      used.remove();
      return;
    }
    if (response.status !== 202) break;
    await new Promise((resolve) => setTimeout(resolve, RECEIPT_EVERY_MS));
  }
  if (!running && !failed) receipt.replaceChildren();
}

// ------------------------------------------------------------------ the request as code

let codeTimer = 0;

function writeCodeSoon() {
  clearTimeout(codeTimer);
  codeTimer = setTimeout(writeCode, CODE_DELAY_MS);
}

async function writeCode() {
  const chosen = [...code.querySelectorAll("input[type=radio]")].findIndex((radio) => radio.checked);
  const response = await post("/playground/code", body());
  if (response.status !== 200) return;
  code.innerHTML = await response.text();
  const radios = code.querySelectorAll("input[type=radio]");
  if (radios[chosen]) radios[chosen].checked = true;
  code.dispatchEvent(new CustomEvent("part:shown", { bubbles: true }));
}

// ------------------------------------------------------------------ the page

function turnOn(busy) {
  send.disabled = busy;
  // An answer that is not streamed is there at once or not at all, so there is nothing to stop.
  stop.hidden = !busy || !form.elements.stream.checked;
  if (busy && document.activeElement === send) stop.focus();
  turns.setAttribute("aria-busy", String(busy));
  // The running count is for the eye; a screen reader is told when the answer has ended.
  receipt.setAttribute("aria-busy", String(busy));
}

form.addEventListener("submit", (event) => {
  const action = event.submitter?.value ?? "send";
  event.preventDefault();
  if (action === "add") addTurn("user").focus();
  else if (action === "send" && !running) run();
});
page.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !running) {
    event.preventDefault();
    run();
  }
});
page.addEventListener("input", (event) => {
  if (event.target.form === form) writeCodeSoon();
});
stop.addEventListener("click", () => {
  running?.abort();
  send.focus();
});
document.getElementById("write-code").hidden = true;
document.getElementById("keys-hint").hidden = false;
for (const turn of turns.children) wireTurn(turn);
