"""The replica set comes up with its users, however often; backups are whole and restorable."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pymongo import MongoClient

from portfolio.devserver.mongod import Mongod, find_mongod
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
        self.set_keyfile("0123456789abcdef")

    def set_keyfile(self, text: str) -> None:
        keyfile = self.folder / "keyfile"
        keyfile.unlink(missing_ok=True)
        keyfile.write_text(text * 8)
        keyfile.chmod(0o400)

    def start(self, port: int | None = None) -> None:
        """Start a member, or on the port of one that was stopped this one again."""
        port = port or free_port()
        data = self.folder / str(port)
        data.mkdir(exist_ok=True)
        command = [str(self.binary), "--replSet=rs0", f"--keyFile={self.folder}/keyfile"]
        command += [f"--dbpath={data}", f"--port={port}", "--bind_ip=127.0.0.1"]
        command += [f"--unixSocketPrefix={data}", "--wiredTigerCacheSizeGB=0.25"]
        log = (data / "log").open("wb")
        self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        if (host := f"127.0.0.1:{port}") not in self.hosts:
            self.hosts.append(host)

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

    def test_passwords_that_an_archive_brought_are_replaced(self, members: Members) -> None:
        """As a restore leaves the set: with the users of another day, whose passwords differ."""
        members.start()
        assert members.init().returncode == 0
        of_today = dict(members.secrets)
        members.secrets |= dict.fromkeys(of_today, "of-the-day-of-the-backup")
        assert members.init().returncode == 0
        members.secrets = of_today
        assert "Authentication failed" in members.evaluate("portfolio", "portfolio", "1")
        key = (members.folder / "keyfile").read_text()
        uri = f"mongodb://__system:{key}@{members.hosts[0]}/?replicaSet=rs0&authSource=local"
        with MongoClient(uri) as client:  # as restore.sh logs in, whatever the passwords are
            assert client.admin["system.users"].count_documents({}) == len(of_today)
        assert members.init().returncode == 0
        assert members.evaluate("portfolio", "portfolio", "1") == "1"

    def test_lost_secrets_are_replaced_once_the_members_have_the_new_keyfile(
        self, members: Members
    ) -> None:
        """As the runbook has it: Lost credentials."""
        members.start()
        assert members.init().returncode == 0
        members.set_keyfile("fedcba9876543210")
        members.secrets = {name: f"new-{text}" for name, text in members.secrets.items()}
        members.stop()
        members.start(int(members.hosts[0].split(":")[1]))
        done = members.init()
        assert done.returncode == 0, done.stdout + done.stderr
        assert members.evaluate("portfolio", "portfolio", "1") == "1"

    def test_it_waits_for_a_member_that_does_not_answer_yet(self, members: Members) -> None:
        with socket.create_server(("127.0.0.1", 0)) as not_yet, ThreadPoolExecutor(1) as pool:
            port = not_yet.getsockname()[1]
            members.hosts.append(f"127.0.0.1:{port}")
            job = pool.submit(members.init)
            not_yet.settimeout(30)
            not_yet.accept()[0].close()
            not_yet.close()
            members.start(port)
            done = job.result()
        assert done.returncode == 0, done.stdout + done.stderr
        assert members.evaluate("portfolio", "portfolio", "1") == "1"

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
            --archive=*) [ "$(basename "$0")" != mongodump ] ||
              gzip <<<dump | head -c "${BYTES:-100}" >"${argument#*=}" ;;
            --logpath=*) echo "Failed to unlink socket file" >"${argument#*=}" ;;
          esac
        done
        if [ "$(basename "$0")" = "${HANGING:-}" ]; then
          kill -TERM "$PPID"
          exec sleep 600
        fi
        [ "$(basename "$0")" != "${FAILING:-}" ]
    """
    for name in ("mongod", "mongodump", "mongorestore", "mongosh"):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(standin)
        path.chmod(0o755)
    for folder in ("backup", "tmp", "secrets"):
        (tmp_path / folder).mkdir()

    def run_script(name: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
            "CALLS": str(tmp_path / "calls"),
            "BACKUP_DIR": str(tmp_path / "backup"),
            "SCRATCH_DIR": str(tmp_path),
            "MONGODB_URI": "mongodb://backup:secret@mongodb/",
            "TMPDIR": str(tmp_path / "tmp"),
        }
        return run(["bash", str(SCRIPTS / name)], env=environment | variables)

    return run_script


def archive(folder: Path, days_old: float) -> Path:
    """An archive of a moment, which its name tells; the file itself is new, as a copy is."""
    moment = datetime.now(UTC) - timedelta(days=days_old)
    path = folder / "backup" / f"portfolio-{moment:%Y%m%dT%H%M%SZ}.archive.gz"
    path.write_text("dump")
    return path


def archive_by_hand(folder: Path) -> Path:
    """An archive that somebody has put beside the daily ones, under a name without a moment."""
    path = folder / "backup" / "portfolio-before-migration.archive.gz"
    path.write_text("dump")
    return path


def archives(folder: Path) -> list[Path]:
    return sorted((folder / "backup").glob("*.archive.gz"))


def partials(folder: Path) -> list[Path]:
    return list((folder / "backup").glob("*.partial"))


class TestBackup:
    def test_dumps_everything_at_one_moment_from_a_secondary(
        self, script: Script, tmp_path: Path
    ) -> None:
        done = script("backup.sh")
        assert done.returncode == 0, done.stderr
        (written,) = archives(tmp_path)
        assert written.stat().st_mode & 0o077 == 0, "nobody else may read it"
        call = (tmp_path / "calls").read_text()
        assert "--oplog" in call
        assert "--readPreference=secondaryPreferred" in call

    def test_credentials_are_not_on_the_command_line(self, script: Script, tmp_path: Path) -> None:
        script("backup.sh")
        command_line, *config = (tmp_path / "calls").read_text().splitlines()
        assert "secret" not in command_line
        assert config == ["uri: mongodb://backup:secret@mongodb/"]

    def test_archives_are_kept_for_14_days_and_go_once_a_new_one_is_whole(
        self, script: Script, tmp_path: Path
    ) -> None:
        old = [archive(tmp_path, days) for days in (14.01, 14.5, 300)]
        recent = [archive(tmp_path, days) for days in (1, 13.9)]
        by_hand = archive_by_hand(tmp_path)
        assert script("backup.sh", KEEP_DAYS="14").returncode == 0
        assert not [path for path in old if path.exists()]
        assert all(path.exists() for path in [*recent, by_hand])

    def test_daily_backups_never_are_more_than_14(self, script: Script, tmp_path: Path) -> None:
        for days in range(1, 20):
            archive(tmp_path, days + 0.001)  # each took a while
        assert script("backup.sh").returncode == 0
        assert len(archives(tmp_path)) == 14

    @pytest.mark.parametrize("fault", [{"FAILING": "mongodump"}, {"BYTES": "9"}], ids=str)
    def test_a_failed_or_torn_dump_keeps_the_old_ones_and_leaves_nothing_behind(
        self, script: Script, tmp_path: Path, fault: dict[str, str]
    ) -> None:
        old = archive(tmp_path, days_old=100)
        assert script("backup.sh", **fault).returncode != 0
        assert archives(tmp_path) == [old]
        assert not partials(tmp_path)

    def test_what_a_killed_backup_left_goes_before_the_next_begins(
        self, script: Script, tmp_path: Path
    ) -> None:
        left = tmp_path / "backup" / "portfolio-20240101T020000Z.archive.gz.partial"
        left.write_text("half")
        assert script("backup.sh", FAILING="mongodump").returncode != 0
        assert not left.exists()

    def test_a_backup_that_is_told_to_end_leaves_nothing_behind(
        self, script: Script, tmp_path: Path
    ) -> None:
        done = script("backup.sh", HANGING="mongodump")
        assert done.returncode == 143
        assert not partials(tmp_path)
        assert not archives(tmp_path)

    def test_a_second_backup_at_once_is_refused(self, script: Script, tmp_path: Path) -> None:
        """It would take the first one's archive for what a killed backup left behind."""
        running = tmp_path / "backup" / "portfolio-20240101T020000Z.archive.gz.partial"
        running.write_text("half")
        with (tmp_path / "backup" / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = script("backup.sh")
        assert done.returncode == 1
        assert "another backup is running" in done.stderr
        assert running.exists()

    @pytest.mark.parametrize("failing", ["", "mongodump"])
    def test_no_password_stays_in_the_pod(
        self, script: Script, tmp_path: Path, failing: str
    ) -> None:
        script("backup.sh", FAILING=failing)
        assert not list((tmp_path / "tmp").iterdir())


class TestRestore:
    def test_takes_the_newest_archive(self, script: Script, tmp_path: Path) -> None:
        archive_by_hand(tmp_path)
        archive(tmp_path, days_old=2)
        newest = archive(tmp_path, days_old=1)
        done = script("restore.sh")
        assert done.returncode == 0, done.stderr
        assert f"restored {newest.name}" in done.stdout
        call = (tmp_path / "calls").read_text()
        assert "--oplogReplay" in call
        assert "--drop" in call

    def test_takes_the_archive_that_is_named(self, script: Script, tmp_path: Path) -> None:
        older = archive(tmp_path, days_old=2)
        archive(tmp_path, days_old=1)
        done = script("restore.sh", BACKUP=older.name)
        assert f"restored {older.name}" in done.stdout

    @pytest.mark.parametrize("name", ["", "portfolio-elsewhere.archive.gz"])
    def test_without_that_archive_it_says_which_there_are(
        self, script: Script, tmp_path: Path, name: str
    ) -> None:
        done = script("restore.sh", BACKUP=name)
        assert done.returncode == 1
        assert f"no such backup: '{name}'" in done.stderr
        assert not (tmp_path / "calls").exists(), "nothing may be restored"

    def test_passwords_are_set_directly_after_a_restore(
        self, script: Script, tmp_path: Path
    ) -> None:
        archive(tmp_path, days_old=1)
        (tmp_path / "secrets" / "keyfile").write_text("ab+/\ncd==\n")
        done = script(
            "restore.sh",
            SECRETS_DIR=str(tmp_path / "secrets"),
            MONGODB_URI="mongodb://mongodb/?authSource=local",
        )
        assert done.returncode == 0, done.stderr
        restore, config, init = (tmp_path / "calls").read_text().splitlines()
        assert restore.startswith("mongorestore ")
        assert config == "uri: mongodb://__system:ab%2B%2Fcd%3D%3D@mongodb/?authSource=local"
        assert init == f"mongosh --nodb --quiet --norc --file {INIT}"

    def test_a_failed_restore_sets_no_password(self, script: Script, tmp_path: Path) -> None:
        archive(tmp_path, days_old=1)
        (tmp_path / "secrets" / "keyfile").write_text("key")
        secrets = str(tmp_path / "secrets")
        done = script("restore.sh", SECRETS_DIR=secrets, FAILING="mongorestore")
        assert done.returncode != 0
        assert "mongosh" not in (tmp_path / "calls").read_text()

    @pytest.mark.parametrize("failing", ["", "mongorestore"])
    def test_no_password_stays_in_the_pod(
        self, script: Script, tmp_path: Path, failing: str
    ) -> None:
        archive(tmp_path, days_old=1)
        script("restore.sh", FAILING=failing)
        assert not list((tmp_path / "tmp").iterdir())


class TestDrill:
    def test_restores_into_a_server_of_its_own(self, script: Script, tmp_path: Path) -> None:
        archive(tmp_path, days_old=1)
        done = script("restore-drill.sh")
        assert done.returncode == 0, done.stderr
        assert "the drill succeeded" in done.stdout
        calls = (tmp_path / "calls").read_text()
        assert "mongod --dbpath" in calls
        assert "uri: mongodb://127.0.0.1:27017" in calls
        assert "secret" not in calls, "the drill must not touch the real replica set"
        assert calls.splitlines()[-1].endswith("--shutdown")

    def test_looks_whether_portfolios_came_back(
        self, replica_set: Mongod, database_name: str
    ) -> None:
        text = (SCRIPTS / "restore-drill.sh").read_text()
        (look,) = re.findall(r"--eval '(.*?)'$", text, re.MULTILINE | re.DOTALL)
        uri = f"mongodb://{replica_set.address}/{database_name}"
        command = [tool("mongosh"), "--quiet", "--norc", uri, "--eval", look]
        with replica_set.client() as client:
            client[database_name].create_collection("portfolio")
            assert run(command).returncode == 1, "nothing came back"
            client[database_name]["portfolio"].insert_one({})
            done = run(command)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "portfolio: 1 documents, 1 indexes, valid: true\n"

    @pytest.mark.parametrize("broken", ["mongorestore", "mongosh"])
    def test_fails_where_the_backup_is_no_good(
        self, script: Script, tmp_path: Path, broken: str
    ) -> None:
        archive(tmp_path, days_old=1)
        assert script("restore-drill.sh", FAILING=broken).returncode != 0
        assert "--shutdown" in (tmp_path / "calls").read_text()

    @pytest.mark.parametrize(("hours", "succeeds"), [(35.9, True), (36.1, False)])
    def test_fails_where_the_newest_backup_is_older_than_36_hours(
        self, script: Script, tmp_path: Path, hours: float, succeeds: bool
    ) -> None:
        archive_by_hand(tmp_path)
        archive(tmp_path, days_old=10)
        newest = archive(tmp_path, days_old=hours / 24)
        done = script("restore-drill.sh")
        assert (done.returncode == 0) == succeeds, done.stderr
        assert "mongorestore" in (tmp_path / "calls").read_text(), "it is tried all the same"
        if not succeeds:
            assert f"{newest.name}, can be restored but is older than 36 hours" in done.stderr
            assert "the drill succeeded" not in done.stdout

    @pytest.mark.parametrize("broken", ["mongod", "mongorestore"])
    def test_shows_the_log_of_mongod_where_it_fails(
        self, script: Script, tmp_path: Path, broken: str
    ) -> None:
        archive(tmp_path, days_old=1)
        done = script("restore-drill.sh", FAILING=broken)
        assert done.returncode != 0
        assert "Failed to unlink socket file" in done.stderr
