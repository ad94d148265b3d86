"""What attacks in files have in common."""

from seqrec.utils.plain_yaml import LARGEST

LAUGHS = "a: &a [1, 1]\nb: &b [*a, *a, *a, *a, *a, *a]\nc: [*b, *b, *b, *b, *b, *b]\n"
ODD_YAML = {
    "a Python object": "x: !!python/object/apply:os.system [touch ran]\n",
    "a tag of its own": "x: !evil y\n",
    "binary": "x: !!binary aWQ=\n",
    "aliases of aliases": LAUGHS,
    "an alias of itself": "x: &x [*x" + ", *x" * 20 + "]\n",
    "deep nesting": "x: " + "[" * 5000 + "]" * 5000 + "\n",
    "deep maps": "".join(f"{' ' * level}x:\n" for level in range(100)),
    "too large": f"x: {'y' * LARGEST}\n",
    "no text": b"\xff\xfe\x00\x01",
    "control characters": "x: \x00\x01\n",
    "no YAML": "x: [1, 2\n",
}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
