"""Stripe's form encoding: `payload[value]=5&types[0]=a` as nested dicts of strings."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qsl

from local.stripe_double.errors import invalid

Form = dict[str, "str | Form"]

_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_PART = re.compile(r"\[([^\[\]]*)\]")


def pairs(text: str) -> list[tuple[str, str]]:
    """The decoded name and value pairs. Raises ApiError for text that is no UTF-8 form."""
    try:
        text.encode()  # raw bytes that are no UTF-8 arrive as lone surrogates
        return parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=1000)
    except ValueError as error:
        raise invalid(f"Invalid request (check that your parameters are form-encoded UTF-8): {error}") from error


def decode_json(text: str) -> Form:
    """A JSON body, which the v2 API takes, as the same nested dicts: lists by index, numbers and truths as text, null
    as the empty string. Raises ApiError for text that is no JSON object."""
    try:
        body = json.loads(text or "{}", parse_int=str, parse_float=str, parse_constant=str)
    except ValueError as error:
        raise invalid(f"Invalid request (check that your body is JSON): {error}") from error
    if not isinstance(body, dict):
        raise invalid("Invalid request (the body must be a JSON object)")
    return {name: _plain(value) for name, value in body.items()}


def _plain(value: object) -> str | Form:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return {str(index): _plain(item) for index, item in enumerate(value)}
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def decode(text: str) -> Form:
    """A form or query string as nested dicts; list indexes become keys. Raises ApiError where names are malformed or
    collide.
    """
    form: Form = {}
    for name, value in pairs(text):
        match = _NAME.fullmatch(name)
        if match is None:
            raise invalid(f"Invalid parameter name: {name}", param=name)
        path = [match[1], *_PART.findall(match[2])]
        node = form
        for part in path[:-1]:
            child = node.setdefault(part, {})
            if not isinstance(child, dict):
                raise invalid(f"Invalid parameters: {name} is given both as a value and as an object", param=name)
            node = child
        # `types[]=a&types[]=b` appends; everything else repeats a name, and the last one wins.
        last = path[-1] or str(len(node))
        if isinstance(node.get(last), dict):
            raise invalid(f"Invalid parameters: {name} is given both as a value and as an object", param=name)
        node[last] = value
    return form
