"""Stands in for kubectl: writes down how it was called, and answers what the test laid down.

`kubectl kustomize` needs no cluster and goes to the real one. In the folder STANDIN_DIR,
answers.json holds a list of [regular expression, exit status, text, how often]; the first that
matches the command line and is not used up answers. Without one: status 0 and no text.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

folder = Path(os.environ["STANDIN_DIR"])
line = " ".join(sys.argv[1:])
if sys.argv[1] == "kustomize":
    os.execv(os.environ["REAL_KUBECTL"], ["kubectl", *sys.argv[1:]])

given = {}
for index, argument in enumerate(sys.argv[:-1]):
    path = Path(sys.argv[index + 1])
    if argument in ("-f", "--filename") and path.is_file():
        given["manifests"] = path.read_text()
if "--from-env-file=/dev/stdin" in sys.argv:
    given["stdin"] = sys.stdin.read()
with (folder / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps({"line": line, **given}) + "\n")

answers_file = folder / "answers.json"
answers = json.loads(answers_file.read_text())
for answer in answers:
    pattern, status, text, times = answer
    if times > 0 and re.search(pattern, line):
        answer[3] -= 1
        answers_file.write_text(json.dumps(answers))
        print(text, file=sys.stderr if status else sys.stdout)
        sys.exit(status)
