"""What a target is given: the event, a constant, a part of the event, or a template filled from it.

Source: guide, "Input transformation"; API, InputTransformer. A template that begins with a brace, a bracket or a quote
is JSON: a variable outside of quotes is written as JSON, one inside as a text. Any other template is a text.

Where we differ: a variable whose path is not in the event is null outside of quotes (AWS leaves nothing, and what is
left is no JSON). Paths are names, indices and wildcards: $.detail.state, $.resources[0], $.detail['a b'], $.x[*].id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Any

from minicloud.event import errors, limits
from minicloud.event.events import when
from minicloud.event.model import Target

Look = Callable[[Any], Any]
MISSING: Any = object()
_STEP = re.compile(r"\.([\w\-/]+)|\.(\*)|\[(\d{1,6})\]|\[(\*)\]|\['([^']*)'\]|\[\"([^\"]*)\"\]")
_PLACE = re.compile(r"<([A-Za-z0-9_.\-]{1,256})>")
_QUOTE = re.compile(r'\\.|(")', re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9_\-]{1,256}\Z")
RULE_ARN, RULE_NAME, CAME = "aws.events.rule-arn", "aws.events.rule-name", "aws.events.event.ingestion-time"
HEAD, WHOLE = "aws.events.event", "aws.events.event.json"
PREDEFINED = frozenset((RULE_ARN, RULE_NAME, CAME, HEAD, WHOLE))


def given(target: Target, event: bytes, rule_arn: str, came: float) -> str:
    """came: when the event was taken, Unix seconds."""
    if target.input:
        return target.input
    if target.path:
        found = compile_path(target.path)(json.loads(event))
        return json.dumps(None if found is MISSING else found, separators=(",", ":"))
    if target.template:
        return _filled(target, json.loads(event), rule_arn, came)
    return event.decode()


def check(target: Target) -> None:
    """Raises ValidationException."""
    if sum(map(bool, (target.input, target.path, target.template))) > 1:
        text = f"Only one of Input, InputPath, or InputTransformer must be provided for target {target.id}."
        raise errors.invalid(text, "Targets")
    errors.check_length("input", target.input, limits.INPUT_CHARS_MAX)
    errors.check_length("inputTemplate", target.template, limits.INPUT_CHARS_MAX)
    if target.input and not _is_json(target.input):
        raise errors.invalid(f"JSON syntax error in input for target {target.id}", "Input")
    for path in (target.path, *target.paths.values()):
        errors.check_length("inputPath", path, limits.PATH_CHARS_MAX)
        if path:
            compile_path(path)
    if target.paths and not target.template:
        raise errors.invalid(f"InputTemplate must be provided for target {target.id}.", "InputTransformer")
    if target.template:
        _check_template(target)


@lru_cache(maxsize=4096)
def compile_path(text: str) -> Look:
    """What a path leads to, or MISSING. Raises ValidationException."""
    steps: list[str | int | None] = []
    at = 1
    while text[:1] == "$" and at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            break
        name, star, index, all_of, quoted, double = found.groups()
        wild = star is not None or all_of is not None
        steps.append(None if wild else int(index) if index is not None else name or quoted or double or "")
        at = found.end()
    if text[:1] != "$" or at < len(text):
        raise errors.invalid(
            f"Invalid JSON path {text[:128]}. Names, indices and wildcards are supported.", "InputPath"
        )
    return lambda event: _walk(event, steps)


def _walk(node: Any, steps: list[str | int | None]) -> Any:
    for place, step in enumerate(steps):
        if step is None:
            inner = node if isinstance(node, list) else list(node.values()) if isinstance(node, dict) else []
            found = (_walk(one, steps[place + 1 :]) for one in inner)
            return [one for one in found if one is not MISSING]
        if isinstance(step, int):
            if not isinstance(node, list) or step >= len(node):
                return MISSING
            node = node[step]
        elif not isinstance(node, dict) or step not in node:
            return MISSING
        else:
            node = node[step]
    return node


# --- templates


def _filled(target: Target, event: dict[str, Any], rule_arn: str, came: float) -> str:
    known: dict[str, Callable[[], Any]] = {
        RULE_ARN: lambda: rule_arn,
        RULE_NAME: lambda: rule_arn.rpartition("/")[2],
        CAME: lambda: when(came),
        HEAD: lambda: {name: value for name, value in event.items() if name != "detail"},
        WHOLE: lambda: event,
    }

    @cache
    def value_of(name: str) -> Any:
        return known[name]() if name in known else compile_path(target.paths[name])(event)

    pieces: list[str] = []
    size = 0
    for piece in _pieces(target.template, value_of):
        pieces.append(piece)
        size += len(piece)
        if size > limits.GIVEN_CHARS_MAX:
            raise errors.invalid(f"The input of target {target.id} is longer than a target takes.", "InputTemplate")
    return "".join(pieces)


def _pieces(template: str, value_of: Callable[[str], Any]) -> Iterator[str]:
    is_json = template.lstrip()[:1] in ("{", "[", '"')
    quoted, at = False, 0
    for place in _PLACE.finditer(template):
        before = template[at : place.start()]
        quoted = _quoted_after(before, quoted)
        yield before + _shown(value_of(place[1]), is_json=is_json, quoted=quoted)
        at = place.end()
    yield template[at:]


def _quoted_after(text: str, quoted: bool) -> bool:
    """Whether one is inside of quotes behind this text. Backslashes hide quotes."""
    return quoted ^ (sum(map(bool, _QUOTE.findall(text))) % 2 == 1)


def _shown(value: Any, *, is_json: bool, quoted: bool) -> str:
    if is_json and not quoted:
        return json.dumps(None if value is MISSING else value, separators=(",", ":"))
    if value is MISSING:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return json.dumps(text)[1:-1] if is_json else text


def _check_template(target: Target) -> None:
    if len(target.paths) > limits.PATHS_MAX:
        raise errors.out_of_model("inputPathsMap", len(target.paths), f"at most {limits.PATHS_MAX} entries")
    for name in target.paths:
        if not _NAME.match(name) or name.startswith("AWS"):
            raise errors.invalid(
                f"InputPathsMap of target {target.id}: the name {name[:64]} is not valid.", "InputPathsMap"
            )
    unknown = set(_PLACE.findall(target.template)) - PREDEFINED - target.paths.keys()
    if unknown:
        names = ", ".join(sorted(unknown))
        raise errors.invalid(
            f"Invalid InputTemplate for target {target.id} : [Unknown variables: {names}]", "InputTemplate"
        )
    whole = target.template.lstrip()[:1] in ("{", "[")
    if whole and not _is_json("".join(_pieces(target.template, lambda _name: ""))):
        raise errors.invalid(f"Invalid InputTemplate for target {target.id} : [It is no JSON]", "InputTemplate")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
