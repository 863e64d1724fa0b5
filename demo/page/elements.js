// Small means of drawing: elements are made once and afterwards changed only where they differ.

/** An element. Properties are set as attributes, functions as listeners, the rest is appended. */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag)
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") node.addEventListener(name, value)
    else if (value !== undefined && value !== false) node.setAttribute(name, value)
  }
  node.append(...children)
  return node
}

/** The element with this id, which the page has. */
export const byId = (id) => document.getElementById(id)

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text
}

/**
 * Lets `parent` hold one child per item, in order; `make(item)` returns `{node, update}` and the
 * children of items that stay are kept. `children` is the Map from key to those, owned here.
 */
export function keyed(parent, children, items, keyOf, make) {
  const keys = new Set(items.map(keyOf))
  for (const [key, child] of children) {
    if (!keys.has(key)) {
      child.node.remove()
      children.delete(key)
    }
  }
  let place = parent.firstChild
  for (const item of items) {
    const key = keyOf(item)
    const child = children.get(key) ?? make(item)
    children.set(key, child)
    child.update(item)
    if (child.node === place) place = place.nextSibling
    else parent.insertBefore(child.node, place)
  }
}

/** Buttons of tags; `choose(tag)` hears which one was pressed. */
export function tagButtons(tags, chosen, choose) {
  return (tags ?? []).map((tag) =>
    element(
      "button",
      {
        type: "button",
        class: "tag",
        "aria-pressed": String(tag === chosen),
        title: `Follow only runs tagged ${tag}`,
        click: (event) => {
          event.stopPropagation()
          choose(tag)
        },
      },
      tag,
    ),
  )
}

/** A titled block of JSON, parsed or as text, or nothing for null. */
export function jsonBlock(title, value) {
  if (value === null || value === undefined) return []
  const text = typeof value === "string" ? indented(value) : JSON.stringify(value, null, 2)
  return [element("h3", {}, title), element("pre", { tabindex: "0" }, element("code", {}, text))]
}

function indented(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2)
  } catch {
    return text
  }
}
