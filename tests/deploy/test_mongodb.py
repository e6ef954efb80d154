"""The replica set comes up with its users, however often; backups are whole and restorable."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from portfolio.devserver.mongod import find_mongod
from portfolio.devserver.processes import free_port

from .conftest import K8S, run, tool

SCRIPTS = K8S / "mongodb" / "base"
INIT = SCRIPTS / "init.js"


class Members:
    """Members of a replica set to be: started as the StatefulSet starts them, not yet initiated."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.binary = find_mongod() or pytest.skip("there is no mongod on this machine")
        tool("mongosh")
        self.hosts: list[str] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.secrets = {
            "root-password": "root-secret",
            "backup-password": "backup-secret",
            "portfolio-password": "portfolio-secret",
        }
        (folder / "keyfile").write_text("0123456789abcdef" * 8)
        (folder / "keyfile").chmod(0o400)

    def start(self) -> None:
        port = free_port()
        data = self.folder / str(port)
        data.mkdir()
        command = [str(self.binary), "--replSet=rs0", f"--keyFile={self.folder}/keyfile"]
        command += [f"--dbpath={data}", f"--port={port}", "--bind_ip=127.0.0.1"]
        command += [f"--unixSocketPrefix={data}", "--wiredTigerCacheSizeGB=0.25"]
        log = (data / "log").open("wb")
        self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        self.hosts.append(f"127.0.0.1:{port}")

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait(30)

    def init(self) -> subprocess.CompletedProcess[str]:
        """Run the init job."""
        for name, value in self.secrets.items():
            (self.folder / name).write_text(f"{value}\n")
        environment = os.environ | {
            "MONGODB_HOSTS": ",".join(self.hosts),
            "SECRETS_DIR": str(self.folder),
            "HOME": str(self.folder),
        }
        command = [tool("mongosh"), "--nodb", "--quiet", "--norc", "--file", str(INIT)]
        return run(command, env=environment)

    def evaluate(self, user: str, database: str, expression: str) -> str:
        """What an expression gives to a user, in mongosh; or the server's refusal."""
        password = self.secrets[f"{user}-password"]
        uri = f"mongodb://{user}:{password}@{','.join(self.hosts)}/{database}"
        source = "portfolio" if user == "portfolio" else "admin"
        command = [tool("mongosh"), "--quiet", "--norc", "--eval", f"print({expression})"]
        command.append(f"{uri}?replicaSet=rs0&authSource={source}&w=majority")
        done = run(command, env=os.environ | {"HOME": str(self.folder)})
        return (done.stdout + done.stderr).strip()


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Members]:
    found = Members(tmp_path)
    yield found
    found.stop()


class TestInit:
    def test_initiates_grows_and_rotates_passwords_without_losing_data(
        self, members: Members
    ) -> None:
        members.start()
        first = members.init()
        assert first.returncode == 0, first.stdout + first.stderr
        assert "initiating the replica set rs0" in first.stdout
        insert = "db.portfolio.insertOne({name: 'kept'}).acknowledged"
        assert members.evaluate("portfolio", "portfolio", insert) == "true"

        members.start()
        members.start()
        members.secrets["portfolio-password"] = "rotated"
        second = members.init()
        assert second.returncode == 0, second.stdout + second.stderr
        assert "initiating" not in second.stdout
        assert [f"adding {host}" in second.stdout for host in members.hosts] == [False, True, True]
        count = "db.portfolio.countDocuments({name: 'kept'})"
        assert members.evaluate("portfolio", "portfolio", count) == "1"

        third = members.init()
        assert third.returncode == 0, third.stdout + third.stderr
        assert "adding" not in third.stdout
        assert third.stdout.endswith("the replica set is as intended\n")

    def test_a_member_that_lost_its_volume_founds_no_second_set(self, members: Members) -> None:
        members.start()
        assert members.init().returncode == 0
        # A new, empty member stands first, as pod 0 would after its volume was lost.
        members.start()
        members.hosts.reverse()
        again = members.init()
        assert again.returncode == 0, again.stdout + again.stderr
        assert "initiating" not in again.stdout
        assert f"adding {members.hosts[0]}" in again.stdout

    def test_users_have_the_rights_that_they_need_and_no_more(self, members: Members) -> None:
        members.start()
        assert members.init().returncode == 0
        index = "db.portfolio.createIndex({name: 1})"
        assert members.evaluate("portfolio", "portfolio", index) == "name_1"
        elsewhere = "db.getSiblingDB('other').c.insertOne({}).acknowledged"
        assert "not authorized" in members.evaluate("portfolio", "portfolio", elsewhere)
        oplog = "db.getSiblingDB('local').oplog.rs.findOne() !== null"
        assert members.evaluate("backup", "admin", oplog) == "true"
        write = "db.getSiblingDB('portfolio').portfolio.insertOne({}).acknowledged"
        assert "not authorized" in members.evaluate("backup", "admin", write)
        assert members.evaluate("root", "admin", "rs.status().myState") == "1"


Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Run a script of the jobs with stand-ins for MongoDB's tools, which write down their calls."""
    standin = """#!/bin/bash
        echo "$(basename "$0") $*" >>"$CALLS"
        for argument; do
          case $argument in
            --config=*) cat "${argument#--config=}" >>"$CALLS" ;;
            --archive=*) [ "$(basename "$0")" != mongodump ] || gzip <<<dump >"${argument#*=}" ;;
          esac
        done
        [ "$(basename "$0")" != "${FAILING:-}" ]
    """
    for name in ("mongod", "mongodump", "mongorestore", "mongosh"):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(standin)
        path.chmod(0o755)
    (tmp_path / "backup").mkdir()

    def run_script(name: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
            "CALLS": str(tmp_path / "calls"),
            "BACKUP_DIR": str(tmp_path / "backup"),
            "SCRATCH_DIR": str(tmp_path),
            "MONGODB_URI": "mongodb://backup:secret@mongodb/",
            "TMPDIR": str(tmp_path),
        }
        return run(["bash", str(SCRIPTS / name)], env=environment | variables)

    return run_script


def archive(folder: Path, name: str, days_old: float) -> Path:
    path = folder / "backup" / name
    path.write_text("dump")
    then = time.time() - days_old * 86400
    os.utime(path, (then, then))
    return path


class TestBackup:
    def test_dumps_everything_at_one_moment_from_a_secondary(
        self, script: Script, tmp_path: Path
    ) -> None:
        done = script("backup.sh")
        assert done.returncode == 0, done.stderr
        (made,) = (tmp_path / "backup").iterdir()
        assert made.name.endswith(".archive.gz")
        call = (tmp_path / "calls").read_text()
        assert "--oplog" in call
        assert "--readPreference=secondaryPreferred" in call

    def test_credentials_are_not_on_the_command_line(self, script: Script, tmp_path: Path) -> None:
        script("backup.sh")
        command_line, *config = (tmp_path / "calls").read_text().splitlines()
        assert "secret" not in command_line
        assert config == ["uri: mongodb://backup:secret@mongodb/"]

    def test_old_archives_go_once_a_new_one_is_whole(self, script: Script, tmp_path: Path) -> None:
        old = archive(tmp_path, "portfolio-old.archive.gz", days_old=15.5)
        recent = archive(tmp_path, "portfolio-recent.archive.gz", days_old=13)
        assert script("backup.sh", KEEP_DAYS="14").returncode == 0
        assert not old.exists()
        assert recent.exists()

    def test_a_failed_dump_keeps_the_old_ones_and_leaves_no_archive(
        self, script: Script, tmp_path: Path
    ) -> None:
        old = archive(tmp_path, "portfolio-old.archive.gz", days_old=100)
        assert script("backup.sh", FAILING="mongodump").returncode != 0
        assert list((tmp_path / "backup").glob("*.archive.gz")) == [old]


class TestRestore:
    def test_takes_the_newest_archive(self, script: Script, tmp_path: Path) -> None:
        archive(tmp_path, "portfolio-20240101T020000Z.archive.gz", days_old=2)
        archive(tmp_path, "portfolio-20240102T020000Z.archive.gz", days_old=1)
        done = script("restore.sh")
        assert done.returncode == 0, done.stderr
        assert "restored portfolio-20240102T020000Z.archive.gz" in done.stdout
        call = (tmp_path / "calls").read_text()
        assert "--oplogReplay" in call
        assert "--drop" in call

    def test_takes_the_archive_that_is_named(self, script: Script, tmp_path: Path) -> None:
        archive(tmp_path, "portfolio-20240101T020000Z.archive.gz", days_old=2)
        archive(tmp_path, "portfolio-20240102T020000Z.archive.gz", days_old=1)
        done = script("restore.sh", BACKUP="portfolio-20240101T020000Z.archive.gz")
        assert "restored portfolio-20240101T020000Z.archive.gz" in done.stdout

    @pytest.mark.parametrize("name", ["", "portfolio-elsewhere.archive.gz"])
    def test_without_that_archive_it_says_which_there_are(
        self, script: Script, tmp_path: Path, name: str
    ) -> None:
        done = script("restore.sh", BACKUP=name)
        assert done.returncode == 1
        assert f"no such backup: '{name}'" in done.stderr
        assert not (tmp_path / "calls").exists(), "nothing may be restored"

    def test_drill_restores_into_a_server_of_its_own(self, script: Script, tmp_path: Path) -> None:
        archive(tmp_path, "portfolio-20240102T020000Z.archive.gz", days_old=1)
        done = script("restore-drill.sh")
        assert done.returncode == 0, done.stderr
        calls = (tmp_path / "calls").read_text()
        assert "mongod --dbpath" in calls
        assert "uri: mongodb://127.0.0.1:27017" in calls
        assert "secret" not in calls, "the drill must not touch the real replica set"
        assert calls.splitlines()[-1].endswith("--shutdown")

    @pytest.mark.parametrize("broken", ["mongorestore", "mongosh"])
    def test_drill_fails_where_the_backup_is_no_good(
        self, script: Script, tmp_path: Path, broken: str
    ) -> None:
        archive(tmp_path, "portfolio-20240102T020000Z.archive.gz", days_old=1)
        assert script("restore-drill.sh", FAILING=broken).returncode != 0
        assert "--shutdown" in (tmp_path / "calls").read_text()
