"""Uses the Python file of the page, in the program that ``test_call_it`` runs."""

import json
import sys

import portfolios

word = sys.argv[1]
created = [portfolios.create(f"{word} {number}") for number in range(3)]
told = {
    "created": created,
    "found": list(portfolios.search(name_like=word, limit=2)),
    "resolved": portfolios.resolve(["nonsense"], [f"{word} 1".upper(), f"{word} unknown"]),
    "renamed": portfolios.rename(created[0]["portfolioId"], f"{word} renamed"),
}
json.dump(told, sys.stdout)
