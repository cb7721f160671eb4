// The explorer: Swagger UI on the document of the API, for reading. It has none of its own style, and what its markup lacks comes
// in through its plugins: headings, names, a table that is one, and nothing that a reader cannot use.
const place = document.getElementById("explorer");
const { address, language } = place.dataset;

function say(name) {
  return document.getElementById("says").content.querySelector(`[data-say="${name}"]`).textContent;
}

function anchor(path, method) {
  return `${method} ${path}`.toLowerCase().replace(/[^\w]+/g, "-").replace(/^-|-$/g, "");
}

// The names that operations have in the reference are their addresses here, too.
function named(description) {
  for (const [path, item] of Object.entries(description.paths)) {
    for (const [method, operation] of Object.entries(item)) {
      if (method !== "parameters") operation.operationId = anchor(path, method);
    }
  }
  return description;
}

// One list of operations, each under a heading: no header, no servers, no keys, and no list of what the operations name anyway.
const operations = ({ React: { createElement: make } }) => ({
  components: {
    ReadingLayout: ({ getComponent }) => make(getComponent("operations", true)),
    OperationTag: ({ children }) => children,
    OperationSummary: ({ operationProps, isShown, toggleShown }) => {
      const { method, path, summary } = operationProps.toObject();
      return make(
        "h3",
        { className: "opblock-summary" },
        make(
          "button",
          { type: "button", "aria-expanded": isShown, onClick: toggleShown },
          make("span", { className: `method method-${method}` }, method.toUpperCase()),
          make("code", null, ...path.split(/(?=\/)/).flatMap((part) => [make("wbr"), part])),
          make("span", { className: "soft", lang: language }, summary),
        ),
      );
    },
  },
  wrapComponents: {
    parameters: (Original) => (props) => {
      const [path, method] = props.pathMethod;
      const links = [make("a", { key: "code", href: `/docs/reference#${anchor(path, method)}` }, say("code"))];
      if (`${method} ${path}` === "post /v1/responses") links.push(make("a", { key: "try", href: "/playground" }, say("try")));
      return [make("p", { key: "links", className: "row small", lang: language }, ...links), make(Original, { key: "fields", ...props })];
    },
  },
});

// A row for each status. Errors have the same body, so it is shown once.
const answers = ({ React: { createElement: make } }) => ({
  components: {
    responses: (props) => {
      const Response = props.getComponent("response");
      let shown = null;
      const rows = props.responses.entrySeq().map(([code, response]) => {
        const again = shown !== null && response.get("content")?.equals(shown);
        shown = response.get("content") ?? shown;
        return make(Response, {
          ...props, key: code, code, specPath: props.specPath.push(code), contentType: null, controlsAcceptHeader: false,
          response: again ? response.delete("content") : response,
        });
      });
      const heads = ["Code", "Description"].map((text) => make("th", { key: text, scope: "col" }, text));
      return make(
        "div",
        { className: "opblock-section" },
        make("h4", null, "Responses"),
        make("table", { className: "responses-table" }, make("thead", null, make("tr", null, heads)), make("tbody", null, rows.toArray())),
      );
    },
  },
});

// What cannot be changed is shown as text, and every button says what it opens.
const reading = ({ React: { createElement: make } }) => ({
  components: {
    JsonSchemaForm: () => null,
    JSONSchema202012ExpandDeepButton: () => null,
    JSONSchema202012Accordion: ({ expanded, children, onChange }) =>
      make(
        "button",
        { type: "button", className: "opens", "aria-expanded": expanded, onClick: (event) => onChange(event, !expanded) },
        "title" in children.props && !children.props.title ? make("span", { lang: language }, say("fields")) : children,
      ),
    JSONSchema202012KeywordEnum: ({ schema }) =>
      schema.enum
        ? make(
            "div",
            { className: "json-schema-2020-12-json-viewer" },
            make("span", { className: "json-schema-2020-12-json-viewer__name" }, "Enum"),
            ...schema.enum.map((value) => make("code", { className: "json-schema-2020-12__attribute" }, JSON.stringify(value))),
          )
        : null,
  },
  wrapComponents: {
    contentType: (Original) =>
      class extends Original {
        render() {
          return this.props.contentTypes.size > 1 ? super.render() : make("code", null, this.props.contentTypes.first());
        }
      },
    // Sentences of the document are in the reader's language; those that Swagger UI makes begin with a mark of their own.
    Markdown: (Original) => (props) =>
      props.source?.startsWith("<i>") ? make(Original, props) : make("div", { lang: language }, make(Original, props)),
  },
});

async function open() {
  const response = await fetch(address);
  if (!response.ok || !globalThis.SwaggerUIBundle) return;
  SwaggerUIBundle({
    domNode: place,
    spec: named(await response.json()),
    layout: "ReadingLayout",
    plugins: [operations, answers, reading],
    deepLinking: true,
    docExpansion: "list",
    supportedSubmitMethods: [],
    validatorUrl: null,
    syntaxHighlight: { activated: false },
  });
}

open();
