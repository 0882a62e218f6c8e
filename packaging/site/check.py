#!/usr/bin/env python3
"""Checks the links of a site: each leads to a file of it, and each anchor to an element: check.py FOLDER"""

import html.parser
import os
import sys
import urllib.parse


class Page(html.parser.HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.links, self.ids = [], set()
        with open(path, encoding="utf-8") as text:
            self.feed(text.read())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.update(attributes[name] for name in ("id", "name") if attributes.get(name))
        link = attributes.get("href") or attributes.get("src")
        if link and tag in ("a", "img", "script", "link"):
            self.links.append(link)


def main(folder):
    names = [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names if name.endswith(".html")]
    pages = {os.path.normpath(name): Page(name) for name in names}
    wrong, checked = [], 0
    for name, page in pages.items():
        # The page for addresses that are not there has links from the root of wherever the site is served.
        if os.path.basename(name) == "404.html":
            continue
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            checked += 1
            path = os.path.normpath(os.path.join(os.path.dirname(name), urllib.parse.unquote(parts.path))) if parts.path else name
            if os.path.isdir(path):
                path = os.path.join(path, "index.html")
            if not os.path.exists(path):
                wrong.append(f"{name}: {link}: there is no such file")
            elif parts.fragment and path in pages and urllib.parse.unquote(parts.fragment) not in pages[path].ids:
                wrong.append(f"{name}: {link}: there is no such place on the page")
    print("\n".join(sorted(set(wrong))), end="\n" if wrong else "")
    if wrong or len(pages) < 20 or checked < 500:
        sys.exit(f"{len(pages)} pages, {checked} links, {len(set(wrong))} of them wrong")
    print(f"{len(pages)} pages, {checked} links: every one leads somewhere")


main(sys.argv[1])
