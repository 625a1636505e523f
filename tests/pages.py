"""A reader of HTML pages that complains about what is not well-formed or needs anything from elsewhere."""

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Checker(HTMLParser):
    """Collects what a page refers to, and complains about tags that do not match."""

    def __init__(self):
        super().__init__()
        self.open, self.images, self.links, self.ids, self.other = [], [], [], [], []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(given)
        elif tag == "a":
            self.links.append(given["href"])
        elif "src" in given or "href" in given:
            self.other.append((tag, given))
        if "id" in given:
            self.ids.append(given["id"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text += data


def check(html):
    """The page parsed; fails where it is not well-formed or needs anything from elsewhere."""
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    assert not re.search(r"https?://|url\(|@import|<link", html)
    assert checker.other == []
    for image in checker.images:
        assert image["src"].startswith("data:image/png;base64,")
        assert image["alt"]
    assert len(checker.ids) == len(set(checker.ids))
    assert all(link[1:] in checker.ids for link in checker.links if link.startswith("#"))
    return checker


def words(checker):
    return " ".join(checker.text.split())
