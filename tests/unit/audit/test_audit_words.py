"""Words of the audit's page: each is told where it stands first, and once."""

from test_audit_config import composed

from memgrid.audit.report.words import define, meanings, words_section
from memgrid.report.page import Listing, Picture, Section


def test_a_word_is_told_behind_what_belongs_to_it():
    words = {"Λ": "strength", "AUC": "area", "members": "seen", "PSMI": "information"}
    text = ["Of members some have Λ ≥ 4.5 or more, with AUC 0.91 (0.89 to 0.93): PSMI < 0 finds Λ", "Members, nonmembers and members: AUC."]
    picture = Picture("title", "PSMI", "PSMI", "", 1)
    define([Section("a", "A", text), Section("b", "B", [], [picture])], words)
    assert text[0] == (
        "Of members [seen] some have Λ ≥ 4.5 [Λ: strength] or more, with AUC 0.91 (0.89 to 0.93) [AUC: area]: "
        "PSMI < 0 [PSMI: information] finds Λ"
    )
    assert text[1] == "Members, nonmembers and members: AUC."
    assert picture.caption == "PSMI"


def test_captions_count_and_words_are_listed():
    words = meanings(composed("root=here", "predictors.share=0.2"))
    assert "20 % of its first value" in words["trigger"]
    listing = Listing("title", "TPR at 1 % FPR", [], [])
    section = Section("a", "A", ["At the trigger."], [listing])
    define([section], words)
    assert listing.caption == f"TPR [{words['TPR']}] at 1 % FPR [{words['FPR']}]"
    assert section.text == [f"At the trigger [{words['trigger']}]."]
    (table,) = words_section(words).parts
    assert [row[0].value for group in table.groups for row in group.rows] == list(words)
