"""wandb's server: the user's login there, and what it shows of a run."""

from __future__ import annotations

import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from memgrid.errors import UserError
from memgrid.tracking.files import logged_steps, records
from memgrid.tracking.log import own_environment

if TYPE_CHECKING:
    import wandb

SERVER_SECONDS = 10  # how long the server may take to answer; it is asked a second time
ARRIVAL_SECONDS = 20


def log_in(verify: bool) -> None:
    """Take the user's wandb login; with `verify`, ask the server whether it is valid.

    Raises:
        UserError: there is none, or the server cannot be reached or refuses it.
    """
    if not find_spec("wandb"):
        raise UserError("wandb is not installed: pip install wandb")
    import wandb

    address = os.environ.get("WANDB_BASE_URL", "its server")
    try:
        with own_environment():  # where it is offline, wandb does not look for a login
            has_login = wandb.login(prompt=False, verify=False)
            if has_login and verify:
                server()  # asks, which a second login() does not
    except (wandb.Error, ValueError):  # ValueError: an address that is none
        raise UserError(f"wandb cannot reach {address} or is refused there: check the network and `wandb login --relogin`") from None
    if not has_login:
        raise UserError(f"there is no login for wandb at {address}: log in with `wandb login` first")


def server() -> wandb.Api:
    """What asks the server, which has SERVER_SECONDS for an answer, twice.

    wandb's own limit would end the waiting in this process alone. Its service would go on asking, and if its answer came when this process
    ends, it would miss that it is to end as well, for which this process waits: it never ended. So the limit is the service's.

    Raises:
        wandb.Error: the server does not answer, or refuses the login.
        ValueError: its address is none.
    """
    import wandb

    settings = wandb.setup().settings
    limits = {"timeout_seconds": SERVER_SECONDS, "retry_max": 1, "retry_wait_min_seconds": 0, "retry_wait_max_seconds": 1}
    before = {name: getattr(settings, f"x_graphql_{name}") for name in limits}
    try:
        for name, limit in limits.items():
            setattr(settings, f"x_graphql_{name}", limit)
        return wandb.Api(timeout=3 * SERVER_SECONDS)
    finally:  # a run that is begun later is as patient as wandb makes it
        for name, limit in before.items():
            setattr(settings, f"x_graphql_{name}", limit)


def arrived(path: Path) -> bool:
    """Whether the server shows the last step of a part within ARRIVAL_SECONDS; also True where it cannot be asked.

    wandb's client was once seen to report success for rows that never arrived.
    """
    last, deadline = max(logged_steps(path), default=-1), time.monotonic() + ARRIVAL_SECONDS
    while (shown := last_step_shown(path)) is not None and shown < last:
        if time.monotonic() > deadline:
            return False
        time.sleep(1)
    return True


def last_step_shown(path: Path) -> int | None:
    """The last step that the server has of the run that a part belongs to, -1 before the first; None where it cannot be asked."""
    import wandb

    run = next(record.run for record, _ in records(path) if record.HasField("run"))
    try:
        api = server()
        return int(api.run("/".join((run.entity or str(api.default_entity), run.project, run.run_id))).lastHistoryStep)
    except (wandb.Error, ValueError):
        return None
