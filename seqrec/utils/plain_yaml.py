"""YAML files from anybody: read as plain data, in bounded time and memory."""

from pathlib import Path

import yaml

from seqrec.utils.errors import UserError

LARGEST, DEEPEST, ALIASES = 2**18, 20, 10  # bytes; levels; aliases multiply what they stand for
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def checked_text(path: Path) -> str:
    """Return the text of a YAML file; raises UserError for tags, many aliases, deep nesting, a large file or no YAML."""
    if not path.is_file() or path.stat().st_size > LARGEST:
        raise UserError(f"{path}: no regular file of at most {LARGEST:,} bytes")
    depth = aliases = 0
    try:
        text = path.read_text(encoding="utf-8")
        for event in yaml.parse(text, Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            aliases += isinstance(event, yaml.AliasEvent)
            if getattr(event, "tag", None) or depth > DEEPEST or aliases > ALIASES:
                problem = f"a tag, more than {DEEPEST} levels or more than {ALIASES} aliases; write plain values"
                raise UserError(f"{path}, line {event.start_mark.line + 1}: {problem}")
    except UnicodeDecodeError:
        raise UserError(f"{path}: no text in UTF-8") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: no YAML: {' '.join(str(error).split())}") from None
    return text


def read_plain(path: Path) -> dict:
    """Return the values of the configuration of a run, which is plain data: nothing in it is resolved.

    Raises UserError for anything else than keys and values, and for an interpolation.
    """
    try:
        values = yaml.load(checked_text(path), Loader)
    except ValueError as error:  # a date or a number that is none
        raise error if isinstance(error, UserError) else UserError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: not the configuration of a run: no keys and values")
    todo = [values]
    for node in todo:
        todo += node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
        if isinstance(node, str) and "${" in node:
            raise UserError(f"{path}: {node}: the configuration of a run is plain data; write the value itself")
    return values
