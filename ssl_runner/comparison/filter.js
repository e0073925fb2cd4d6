// The filter language of filter.py on rows {column: number | text | list of texts}, shares in per cent.
const SCALE = { "": 1, "%": 1, k: 1e3, m: 1e6, g: 1e9 };
const INSTEAD = { and: "a blank: a b", "&&": "a blank: a b", or: "a|b", "||": "a|b", not: "-a" };
const ORDERS = { "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b };
const plain = (text) => text.replaceAll('"', "").trim().toLowerCase();
const normal = (key) => plain(key).replace(/%$/, "").replaceAll("_", " ").trim();

function numeric(text) {
  const match = /^([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)([kmg%]?)$/i.exec(text);
  return match && Number(match[1]) * SCALE[match[2].toLowerCase()];
}

function distance(a, b) {  // edits, as a share of the longer word
  let above = Array.from({ length: b.length + 1 }, (_, i) => i), before = above;
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) row.push(Math.min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] !== b[j - 1]), i > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? before[j - 2] + 1 : Infinity));
    [before, above] = [above, row];
  }
  return above[b.length] / Math.max(a.length, b.length);
}

function findColumn(key, columns) {
  const wanted = normal(key), names = new Map([...columns].map((each) => [normal(each), each]));
  const exact = names.get(wanted) ?? names.get(`${wanted}/top1`);
  if (exact !== undefined) return exact;
  let ends = [...names].filter(([name]) => name.endsWith(`.${wanted}`) || name.endsWith(`/${wanted}`)).map(([, each]) => each);
  const learnt = ends.filter((each) => !each.startsWith("evaluator."));
  if (learnt.length) ends = learnt;
  if (ends.length === 1) return ends[0];
  if (ends.length) throw new Error(`${plain(key)} may be ${ends.slice(0, 4).join(", ")}; type one of them`);
  const near = [...names].flatMap(([name, each]) => [[distance(wanted, name), each], [distance(wanted, name.split(".").pop()) + 1e-6, each]]).sort((a, b) => a[0] - b[0])[0];
  throw new Error(`${plain(key)} is no column${near && near[0] <= 0.5 ? `; nearest is ${near[1]}` : ""}`);
}

function compared(key, operator, text, rows, columns) {
  const column = findColumn(key, columns), wanted = plain(text), given = numeric(wanted), name = plain(key);
  if (!wanted) throw new Error(`${name}${operator} lacks a value, as in ${name}${operator}1`);
  if (operator === "=") return (row) => {
    const value = row[column];
    return typeof value === "number" ? value === given : [value ?? []].flat().some((each) => String(each).toLowerCase() === wanted);
  };
  if (given === null) throw new Error(`${name}${operator}${wanted}: ${wanted} is no number`);
  if (!rows.some((row) => typeof row[column] === "number")) throw new Error(`${column} has no numbers; type ${name}=${wanted}`);
  return (row) => typeof row[column] === "number" && ORDERS[operator](row[column], given);
}

const contains = (word) => (row) => Object.values(row).some((value) => [value].flat().some((each) => typeof each === "string" && each.toLowerCase().includes(word)));

function readWord(token, rows, columns) {
  if (token.split('"').length % 2 === 0) throw new Error(`${token}: the second quotation mark is missing`);
  if (token.toLowerCase() in INSTEAD) throw new Error(`${token}: type ${INSTEAD[token.toLowerCase()]}`);
  let excluded = token.startsWith("-") && token.length > 1, before = null, isText = !excluded;
  const tests = [];
  for (const part of token.slice(excluded ? 1 : 0).split(/\|(?=(?:[^"]*"[^"]*")*[^"]*$)/)) {
    const match = /^("[^"]*"|[^<>=!"]+)(<=|>=|!=|=|<|>)([^]*)$/.exec(part);
    let [key, operator, text] = match ? match.slice(1) : [...(before || ["", ""]), part];
    if (operator === "!=") {  // of all values that follow, as in pretext!=a|b
      if (tests.length) throw new Error(`${token}: ${part} cannot follow a |; type it as a word of its own`);
      excluded = !excluded;
      operator = "=";
    }
    before = operator === "=" ? [key, operator] : null;  // pretext=a|b is pretext=a|pretext=b
    if (!operator && !plain(text)) throw new Error(`${token}: a word is missing`);
    if (operator) isText = false;
    tests.push(operator ? compared(key, operator, text, rows, columns) : contains(plain(text)));
  }
  if (isText && rows.length && !rows.some((row) => tests.some((test) => test(row)))) throw new Error(`${token} is in no run`);
  return (row) => tests.some((test) => test(row)) !== excluded;
}

function filterRows(text, rows) {  // which rows fit all words; a line for each word that is not understood
  const tests = [], problems = [], columns = new Set(rows.flatMap((row) => Object.keys(row)));
  for (const token of text.match(/(?:"[^"]*(?:"|$)|[^\s"])+/g) || []) {
    try { tests.push(readWord(token, rows, columns)); } catch (error) { problems.push(error.message); }
  }
  return { fits: rows.map((row) => tests.every((test) => test(row))), problems };
}
