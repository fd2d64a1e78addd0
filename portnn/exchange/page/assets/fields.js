// -- the input: a field for each number, or one for all of them ------------------------------------------------------

const INPUTS = product(ABOUT.inputShape);
const fields = [];
const list = () => element("list");

// The numbers that were entered; null, with the reason on the page, if they are not what the network takes.
function entered() {
  const texts = list() ? list().value.split(/[\s,;[\]()]+/).filter(Boolean) : fields.map((field) => field.value.trim());
  const numbers = texts.map((text) => (text === "" ? NaN : Number(text.replaceAll("\u2212", "-"))));
  const wrong = numbers.findIndex((number) => !Number.isFinite(number));
  let fault = "";
  if (wrong >= 0) fault = `${ABOUT.inputs[wrong] ?? `number ${wrong}`} is \u201c${texts[wrong]}\u201d: it must be a number.`;
  else if (numbers.length !== INPUTS) fault = `The network takes ${INPUTS} numbers, these are ${numbers.length}.`;
  fields.forEach((field, i) => field.setAttribute("aria-invalid", String(i === wrong)));
  list()?.setAttribute("aria-invalid", String(fault !== ""));
  element("fault").textContent = fault;
  return fault ? null : numbers;
}

function refresh() {
  const numbers = entered();
  show(numbers && tensor(ABOUT.inputShape, Numbers.from(numbers)));
}

function fill(valueOf) {
  const texts = Array.from({ length: INPUTS }, (_, i) => String(valueOf(i)));
  if (list()) list().value = texts.join(", ");
  fields.forEach((field, i) => (field.value = texts[i]));
  refresh();
}

function prepareInput() {
  if (!list()) {
    for (let i = 0; i < INPUTS; i++) {
      const field = create("input", { id: `x${i}`, inputmode: "text", autocomplete: "off", spellcheck: "false" });
      field.addEventListener("input", refresh);
      fields.push(field);
      element("fields").append(create("label", { for: `x${i}` }, ABOUT.inputs[i], field));
    }
  }
  list()?.addEventListener("input", refresh);
  element("zeros").addEventListener("click", () => fill(() => 0));
  element("random").addEventListener("click", () => fill(() => +(2 * Math.random() - 1).toFixed(3)));
  fill(() => 0);
}
