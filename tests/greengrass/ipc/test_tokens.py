import grp
import json
import os
import stat

from agent.greengrass.ipc.tokens import CliTokens


def read(path):
    return json.loads(path.read_bytes())["cli_auth_token"]


async def test_groups_find_a_token_while_they_are_named_and_the_users_own_stays(tmp_path):
    tokens, group = CliTokens(tmp_path, tmp_path / "ipc.socket"), grp.getgrgid(os.getgid())
    tokens.open()
    folder = tmp_path / "cli_ipc_info"
    mine = read(folder / f"user-{os.geteuid()}")
    await tokens.apply({"AuthorizedPosixGroups": f"{group.gr_name}, no-such-group"})
    file = folder / f"group-{group.gr_gid}"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    theirs = read(file)
    assert tokens.who(theirs).is_cli
    await tokens.apply({"AuthorizedPosixGroups": str(group.gr_gid)})
    assert read(file) == theirs
    await tokens.apply(None)
    assert not file.exists()
    assert tokens.who(theirs) is None
    assert tokens.who(mine).name == f"greengrass-cli-user-{os.geteuid()}"
    tokens.close()
    assert tokens.who(mine) is None
    assert not folder.exists()
