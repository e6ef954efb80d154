// Returns the visible texts whose contrast with what is behind them is below the argument.
const parse = text => (text.match(/[\d.]+/g) ?? []).map(Number)
const over = ([r, g, b, a = 1], under) => [r, g, b].map((c, i) => a * c + (1 - a) * under[i])
function ground(node) {
  const layers = []
  for (let e = node; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor))
  return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255])
}
const light = rgb => rgb.map(c => (c /= 255) <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0)
const found = {}
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
while (walk.nextNode()) {
  const e = walk.currentNode.parentElement, box = e.getBoundingClientRect(), style = getComputedStyle(e)
  if (!walk.currentNode.data.trim() || !box.width || style.visibility !== "visible" || ["SCRIPT", "STYLE", "NOSCRIPT"].includes(e.tagName)) continue
  const below = ground(e), [a, b] = [light(over(parse(style.color), below)), light(below)]
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05)
  if (ratio < arguments[0]) found[`${e.tagName}.${e.className.baseVal ?? e.className} ${style.color} on ${below.map(Math.round)}`] = `${ratio.toFixed(1)} ${walk.currentNode.data.trim().slice(0, 40)}`
}
return found
