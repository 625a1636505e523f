"""What follows from a configuration."""

from dataclasses import asdict

import pytest
from runs_maker import composed

from memgrid.config.derive import OURS, PAPER, PROTOCOLS, members, protocol
from memgrid.config.names import settings, training_key, training_seed
from memgrid.io.paths import CONF


def test_there_is_a_protocol_for_every_file_of_compat():
    assert set(PROTOCOLS) == {path.stem for path in (CONF / "compat").glob("*.yaml")}
    assert all(asdict(OURS)[name] != value for name, value in asdict(PAPER).items()), "a field that changes nothing"


@pytest.mark.parametrize("compat", PROTOCOLS)
def test_every_field_of_a_protocol_is_asked(compat):
    """`recollect` and `recite` are one partition, and `rasy` does not depend on δ."""
    by = protocol(composed((f"compat={compat}",)))
    assert by == PROTOCOLS[compat]
    assert {member.reads for member in members(composed(("cnn=paper",)).cnn, by)} == (
        {"mean"} if by.members_read_means else {"mean", "max"}
    )
    keys = {training_key(composed((f"compat={compat}", f"taxonomy={name}"))) for name in ("recite", "recollect")}
    assert len(keys) == (1 if by.shares_trainings else 2)
    assert (settings(composed((f"compat={compat}", "taxonomy=rasy")))["delta"] is None) == by.shares_trainings
    seeds = {training_seed(composed((f"compat={compat}", f"taxonomy={name}"))) for name in ("rasy", "code")}
    assert len(seeds) == (2 if by.seeds_every_setting else 1)
