"""Plain values: nested dictionaries and lists, as they come from a configuration."""

import hashlib
import json


def flatten(values: dict, prefix: str = "") -> dict[str, object]:
    """Return nested keys as one level, joined by dots."""
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def digest(values: object) -> str:
    """Return 8 hexadecimal digits that differ wherever plain values differ."""
    return hashlib.sha256(json.dumps(_with_sorted_keys(values)).encode()).hexdigest()[:8]


def _with_sorted_keys(node: object) -> object:
    """Return plain values with the keys in order: numbers first, for json itself cannot sort them among names."""
    if isinstance(node, dict):
        return {key: _with_sorted_keys(node[key]) for key in sorted(node, key=lambda key: (isinstance(key, str), key))}
    return [_with_sorted_keys(value) for value in node] if isinstance(node, list) else node
