"""The files of `sql/` on Citus: what it would refuse, by PostgreSQL's own reading of them; and a real one, where there is one."""

import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dev.postgres import new_database
from tests.support.client import Client, application, in_process
from tests.support.load import every_operation
from tests.support.statements import BOUND, FILES, execute, parameters
from todo_api.connection import SETTINGS
from todo_api.migrations import migrate
from todo_api.statements import SQL, statement

MIGRATIONS = sorted((SQL / "migrations").glob("*.sql"))
UPDATE, INSERT, DELETE = "2", "3", "4"  # CmdType
LOOSE = "a reference to tasks is not held to the user"
Node = dict[str, Any]


def parsed(words: Iterator[str], end: str = "") -> list[Any]:
    """What PostgreSQL prints of a parse tree, up to `end`: nodes as dicts, lists, strings."""
    values: list[Any] = []
    for word in words:
        if word == end:
            break
        if word == "{":
            kind, *fields = parsed(words, "}")
            node, name = {"kind": kind}, ""
            for field in fields:
                if isinstance(field, str) and field.startswith(":"):
                    name = field[1:]
                else:
                    node[name] = field
            values.append(node)
        elif word in ("(", "["):
            values.append(parsed(words, {"(": ")", "[": "]"}[word]))
        else:
            values.append(None if word == "<>" else word)
    return values


def below(part: Any) -> Iterator[Node]:
    """All nodes of a tree or of a part of it."""
    if isinstance(part, dict):
        yield part
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from below(inner)


class Reader:
    """What Citus 13 would say of a statement, after its planner (multi_router_planner.c)."""

    def __init__(self, conn: psycopg.Connection) -> None:
        self.conn = conn
        self.functions = {
            oid: (name, kind) for oid, name, kind in conn.execute("SELECT oid::text, proname, provolatile FROM pg_proc")
        }
        types = "SELECT oid::text, typinput::oid::text, typoutput::oid::text FROM pg_type"
        self.types = {oid: (reads, writes) for oid, reads, writes in conn.execute(types)}
        columns = (
            "SELECT attrelid::text, attnum::text FROM pg_attribute WHERE attrelid = 'tasks'::regclass AND attname = 'user_id'"
        )
        self.table, self.key = conn.execute(columns).fetchone() or ("", "")

    def tree(self, file: Path) -> list[Any]:
        printed: list[str] = []
        with self.conn.transaction(force_rollback=True):
            self.conn.execute("SET LOCAL debug_print_parse = on; SET LOCAL client_min_messages = log")
            self.conn.add_notice_handler(lambda notice: printed.append(notice.message_detail or ""))
            execute(self.conn, file, parameters(file), prepare=True)
            self.conn.execute("SET LOCAL debug_print_parse = off")
        return parsed(iter(re.findall(r"[{}()\[\]]|(?:\\.|[^\s{}()\[\]])+", printed[0])))

    def called(self, node: Node) -> Iterator[tuple[str, str]]:
        """Name and volatility ("i", "s" or "v") of the functions that a node calls."""
        ids = [node[field] for field in ("funcid", "opfuncid", "aggfnoid", "winfnoid") if field in node]
        if node["kind"] == "COERCEVIAIO":
            kinds = ("vartype", "paramtype", "consttype", "funcresulttype", "opresulttype", "resulttype", "minmaxtype")
            ids = [
                self.types[node["resulttype"]][0],
                *(self.types[node["arg"][kind]][1] for kind in kinds if kind in node["arg"]),
            ]
        yield from (self.functions[oid] for oid in ids)
        if node["kind"] == "SQLVALUEFUNCTION":
            yield "current_timestamp and the like", "s"

    def calls(self, part: Any, kinds: str) -> set[str]:
        return {name for node in below(part) for name, kind in self.called(node) if kind in kinds}

    def complaints(self, file: Path) -> set[str]:
        names = list(dict.fromkeys(re.findall(rb"%\((\w+)\)s", statement(file))))
        user = {"kind": "PARAM", "paramid": str(names.index(b"user_id") + 1)} if b"user_id" in names else {}
        queries = [node for node in below(self.tree(file)) if node["kind"] == "QUERY"]
        return {complaint for query in queries for complaint in (*self.loose(query, user), *self.refused(query))}

    def loose(self, query: Node, user: Node) -> Iterator[str]:
        """References to tasks that `user_id = :'user_id'` does not hold to one shard."""

        def is_user(node: Node) -> bool:
            return bool(user) and node.items() >= user.items()

        for number, entry in enumerate(query["rtable"] or [], 1):
            if (entry.get("relid"), entry.get("relkind")) != (self.table, "r"):
                continue
            if query["commandType"] == INSERT:
                held = any(target["resno"] == self.key and is_user(target["expr"]) for target in query["targetList"])
            else:
                where = query["jointree"]["quals"]
                terms = where["args"] if isinstance(where, dict) and where.get("boolop") == "and" else [where]
                column = {"kind": "VAR", "varno": str(number), "varattno": self.key, "varlevelsup": "0"}
                held = any(
                    self.functions.get(term.get("opfuncid"), "") == ("texteq", "i")
                    and term["args"][0].items() >= column.items()
                    and is_user(term["args"][1])
                    for term in terms
                    if isinstance(term, dict)
                )
            if not held:
                yield LOOSE

    def refused(self, query: Node) -> Iterator[str]:
        if query["commandType"] not in (UPDATE, INSERT, DELETE):
            return
        evaluated = [query["jointree"]["quals"], *(query["targetList"] if query["commandType"] == UPDATE else [])]
        for name in self.calls(evaluated, "v"):
            yield f"{name} is volatile"
        for node in below(evaluated):
            if node["kind"] in ("CASEEXPR", "COALESCEEXPR"):
                for name in self.calls(node, "sv"):
                    yield f"{name} inside CASE or COALESCE"
            elif any(inner["kind"] == "VAR" for inner in below(node)):
                for name, kind in self.called(node):
                    if kind == "s":
                        yield f"{name} is stable and given a column"
        for name in self.calls(query["returningList"], "sv"):
            yield f"{name} in RETURNING"
        for name in self.calls(query["onConflict"], "sv"):
            yield f"{name} in ON CONFLICT"
        changed = query["targetList"] if query["commandType"] == UPDATE else (query["onConflict"] or {}).get("onConflictSet")
        if any(target["resno"] == self.key for target in changed or []):
            yield "user_id changes"


@pytest.fixture
def reader(sql: psycopg.Connection) -> Reader:
    return Reader(sql)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_works(file: Path, reader: Reader) -> None:
    assert reader.complaints(file) == set()


SHORT = {
    "MINE": "WHERE user_id = :'user_id' AND id = :'task_id'::bigint",
    "INSERTED": "INSERT INTO tasks (user_id, title, idempotency_key) VALUES (:'user_id', 'x', 'k') "
    "ON CONFLICT (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL",
}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("UPDATE tasks SET completed = true MINE RETURNING to_json(title)", "to_json in RETURNING"),
        ("UPDATE tasks SET completed = true MINE RETURNING updated_at::text", "timestamptz_out in RETURNING"),
        ("DELETE FROM tasks MINE RETURNING id, now()", "now in RETURNING"),
        ("DELETE FROM tasks MINE RETURNING current_timestamp", "current_timestamp and the like in RETURNING"),
        ("UPDATE tasks SET updated_at = clock_timestamp() MINE", "clock_timestamp is volatile"),
        ("DELETE FROM tasks MINE AND random() < 2", "random is volatile"),
        (
            "UPDATE tasks SET updated_at = greatest(now(), updated_at + interval '1 us') MINE",
            "timestamptz_pl_interval is stable and given a column",
        ),
        ("DELETE FROM tasks MINE AND to_char(updated_at, 'YYYY') > ''", "to_char is stable and given a column"),
        ("UPDATE tasks SET updated_at = CASE WHEN completed THEN now() ELSE updated_at END MINE", "now inside CASE or COALESCE"),
        ("UPDATE tasks SET updated_at = coalesce(now(), updated_at) MINE", "now inside CASE or COALESCE"),
        ("INSERTED DO UPDATE SET updated_at = now()", "now in ON CONFLICT"),
        ("INSERTED DO UPDATE SET title = excluded.title WHERE tasks.created_at < now()", "now in ON CONFLICT"),
        ("INSERTED DO UPDATE SET user_id = excluded.user_id", "user_id changes"),
        ("UPDATE tasks SET user_id = 'bob' MINE", "user_id changes"),
        ("SELECT id FROM tasks WHERE id = :'task_id'::bigint", LOOSE),
        ("SELECT id FROM tasks WHERE user_id = 'alice'", LOOSE),
        ("SELECT id FROM tasks WHERE user_id >= :'user_id'", LOOSE),
        ("SELECT id FROM tasks WHERE user_id = :'search'", LOOSE),
        ("SELECT id FROM tasks WHERE user_id = :'user_id' OR id = 1", LOOSE),
        ("SELECT id FROM tasks MINE UNION ALL SELECT id FROM tasks WHERE id = :'task_id'::bigint", LOOSE),
        ("SELECT a.id FROM tasks AS a, tasks AS b WHERE a.user_id = :'user_id' AND a.id = b.id", LOOSE),
        ("WITH gone AS (DELETE FROM tasks WHERE id = :'task_id'::bigint RETURNING id) SELECT id FROM tasks MINE", LOOSE),
        ("INSERT INTO tasks (user_id, title) VALUES ('alice', :'user_id')", LOOSE),
        ("INSERT INTO tasks (user_id, title) SELECT title, :'user_id' FROM (VALUES ('x')) AS v (title)", LOOSE),
    ],
)
def test_a_statement_that_citus_refuses_or_scatters_is_noticed(text: str, complaint: str, reader: Reader, tmp_path: Path) -> None:
    file = tmp_path / "bad.sql"
    file.write_text(re.sub("|".join(SHORT), lambda short: SHORT[short[0]], text))
    assert reader.complaints(file) == {complaint}


def faults(conn: psycopg.Connection) -> list[str]:
    """What keeps Citus from distributing a table by its user_id."""
    found = conn.execute("""
        WITH keys AS (
            SELECT attrelid, attnum FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
            WHERE attname = 'user_id' AND relkind = 'r' AND relnamespace = 'public'::regnamespace
        )
        SELECT indexrelid::regclass || ' is unique without user_id'
        FROM pg_index JOIN keys ON indrelid = attrelid WHERE indisunique AND attnum <> ALL (indkey)
        UNION ALL
        SELECT tgname || ' is a trigger' FROM pg_trigger JOIN keys ON tgrelid = attrelid WHERE NOT tgisinternal
        UNION ALL
        SELECT seqrelid::regclass || ' counts in ' || seqtypid::regtype
        FROM pg_sequence JOIN pg_depend ON objid = seqrelid JOIN keys ON refobjid = attrelid
        WHERE deptype IN ('a', 'i') AND seqtypid <> 'bigint'::regtype
    """)
    return [fault for (fault,) in found]


def test_the_schema_can_be_distributed_after_each_migration(empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as conn:
        for file in MIGRATIONS:
            for text in file.read_bytes().split(b";\n"):  # one by one, as a file without a transaction runs
                conn.execute(text)
            assert faults(conn) == [], file.stem


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("CREATE UNIQUE INDEX bad ON tasks (id)", "bad is unique without user_id"),
        ("CREATE TABLE bad (id bigint PRIMARY KEY, user_id text)", "bad_pkey is unique without user_id"),
        ("CREATE TABLE bad (id int GENERATED ALWAYS AS IDENTITY, user_id text)", "bad_id_seq counts in integer"),
        ("CREATE TABLE bad (id serial, user_id text)", "bad_id_seq counts in integer"),
        (
            "CREATE TRIGGER bad BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "bad is a trigger",
        ),
    ],
)
def test_a_migration_that_citus_refuses_is_noticed(text: str, fault: str, database_url: str) -> None:
    with psycopg.connect(database_url) as conn:
        conn.execute(text)
        assert faults(conn) == [fault]
        conn.rollback()


@pytest.mark.parametrize(
    ("catalog", "mode"), [("", "force_generic_plan"), ("CREATE TABLE pg_dist_partition ()", "auto")], ids=["PostgreSQL", "Citus"]
)
def test_a_connection_to_citus_leaves_it_to_plan_for_each_value(catalog: str, mode: str, empty_database: str) -> None:
    with psycopg.connect(empty_database) as conn:
        conn.execute(catalog)
        conn.execute(SETTINGS)
        assert conn.execute("SHOW plan_cache_mode").fetchone() == (mode,)


@pytest.fixture(scope="module")
def citus() -> Iterator[str]:
    """A database whose table is distributed."""
    with new_database(os.environ.get("CITUS_TEST_URL") or pytest.skip("CITUS_TEST_URL names no server with Citus")) as url:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("CREATE EXTENSION citus")
            migrate(url)
            conn.execute("SELECT create_distributed_table('tasks', 'user_id')")
        yield url


@pytest.mark.parametrize("file", BOUND, ids=lambda file: file.stem)
def test_citus_sends_a_statement_to_one_shard(file: Path, citus: str) -> None:
    with psycopg.connect(citus) as conn:
        plan = "\n".join(line for (line,) in execute(conn, file, parameters(file), b"EXPLAIN "))
    assert set(re.findall(r"Task Count: \d+", plan)) == {"Task Count: 1"}, plan


def test_the_api_works_on_citus(citus: str) -> None:
    with application(citus) as app:
        alice = Client(in_process(app), f"alice-{uuid.uuid4()}")
        for _ in range(8):  # PostgreSQL changes its mind about a prepared statement after five
            task = alice.create()
            assert [alice.call(*operation).status for operation in every_operation(task["id"])] == [200, 201, 200, 200, 200, 204]
            kept = alice.create()
            for method, path in [("PUT", kept["id"]), ("PATCH", f"{kept['id']}/complete"), ("DELETE", kept["id"])]:
                assert alice.call(method, path, {}, headers={"If-Match": '"9"'}).status == 412
            for query in ("?limit=1&order=desc", "?sort=title&limit=1", "?search=milk"):
                assert alice.call("GET", query).status == 200
            once = {"Idempotency-Key": str(uuid.uuid4())}
            first, again = (alice.call("POST", "", {"title": "Buy milk"}, headers=once) for _ in range(2))
            assert (first.body, "Idempotency-Replayed" in first.headers) == (again.body, False)
            assert "Idempotency-Replayed" in again.headers
        assert all(task["user_id"] == alice.user_id for task in alice.list())
