// Uses the TypeScript file of the page, in the program that test_call_it runs.
import { create, rename, resolve, search, type Portfolio } from "./portfolios.js";

const word = process.argv[2]!;
const created: Portfolio[] = [];
for (const number of [0, 1, 2]) created.push(await create(`${word} ${number}`));
const found: Portfolio[] = [];
for await (const portfolio of search({ name_like: word, limit: "2" })) found.push(portfolio);
const resolved = await resolve(["nonsense"], [`${word} 1`.toUpperCase(), `${word} unknown`]);
const renamed = await rename(created[0]!.portfolioId, `${word} renamed`);
console.log(JSON.stringify({ created, found, resolved, renamed }));
