#!/usr/bin/env python3
"""A preprocessor of mdBook: has links that leave docs/ lead to pages of the site, or to copies of files beside them.

mdBook runs it between reading docs/ and writing the site, and gives it the book as JSON. The paths of files that are to be
copied are written to target/site-files; build.sh copies them."""

import json
import os
import posixpath
import re
import sys

# Files of the repository that are pages of the site under another name.
PAGES = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "examples/README.md": "examples.md",
}
# Folders that the text of these pages stands in, for the links in it.
INCLUDED = {"how-to.md": ".", "benchmarks.md": ".", "security.md": ".", "changelog.md": ".", "examples.md": "examples"}
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
FENCE = re.compile(r"^(```.*?^```\s*?$)", re.M | re.S)


def lead(target, page, files):
    """The link from a page of the site to what `target` names in the repository; None for one that stays as it is."""
    if re.match(r"[a-z]+:", target):
        return None
    folder = INCLUDED.get(page, posixpath.join("docs", posixpath.dirname(page)))
    path = posixpath.normpath(posixpath.join(folder, target))
    up = posixpath.dirname(page) or "."
    if path in PAGES:
        return posixpath.relpath(PAGES[path], up)
    if path.startswith("docs/") and os.path.isfile(path):
        return posixpath.relpath(path[len("docs/"):], up)
    if not os.path.exists(path):
        sys.exit(f"docs/{page}: there is no {path}")
    if os.path.isdir(path):
        path = shown_of(path)
    files.add(path)
    return posixpath.relpath(f"files/{copied(path)}", up)


def copied(path):
    """The name of a file's copy, with an ending that a browser shows as text. mdBook takes every `.md` for a page."""
    if path.endswith(".md"):
        return path.removesuffix(".md") + ".txt"
    return path + ".txt" if path.endswith((".rs", ".yaml", ".toml", ".service", ".socket")) else path


def shown_of(folder):
    """The file that stands for a folder: the one that explains it, or else its first."""
    names = sorted(name for name in os.listdir(folder) if os.path.isfile(f"{folder}/{name}"))
    explaining = [name for name in ("README.md", "mod.rs", "Cargo.toml") if name in names]
    return f"{folder}/{(explaining + names)[0]}"


def rewritten(text, page, files):
    def link(match):
        target = lead(match[2], page, files)
        if target is None:
            return match[0]
        # A copy of a file has no headings to go to.
        anchor = "" if target.find("files/") >= 0 else match[3] or ""
        return f"{match[1]}{target}{anchor}{match[4]}"

    parts = FENCE.split(text)
    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in parts)


def walk(items, files):
    for item in items:
        if not isinstance(item, dict) or "Chapter" not in item:
            continue
        chapter = item["Chapter"]
        if chapter.get("path"):
            chapter["content"] = rewritten(chapter["content"], chapter["path"], files)
        walk(chapter["sub_items"], files)


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "supports":
        sys.exit(0 if sys.argv[2] == "html" else 1)
    context, book = json.load(sys.stdin)
    os.chdir(context["root"])
    files = set()
    walk(book.get("items") or book["sections"], files)
    with open("target/site-files", "w", encoding="utf-8") as listed:
        listed.writelines(f"{path} {copied(path)}\n" for path in sorted(files))
    json.dump(book, sys.stdout)


main()
