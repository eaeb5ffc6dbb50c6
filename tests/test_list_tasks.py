import psycopg

from tests.support.client import Client


def test_it_works(alice: Client) -> None:
    tasks = [alice.create(title) for title in "cab"]
    answer = alice.call("GET")
    assert answer.status == 200
    assert answer.json == tasks
    assert answer.headers["Content-Type"] == "application/json"


def test_it_is_an_empty_array_without_tasks(alice: Client) -> None:
    assert alice.call("GET").body == b"[]"


def test_it_is_complete(alice: Client, sql: psycopg.Connection) -> None:
    sql.execute("INSERT INTO tasks (user_id, title) SELECT %s, n::text FROM generate_series(1, 3000) AS n", [alice.user_id])
    assert [task["title"] for task in alice.list()] == [str(n) for n in range(1, 3001)]


def test_it_contains_no_tasks_of_other_users(alice: Client, bob: Client) -> None:
    alice.create("alice's")
    bob.create("bob's")
    assert [task["title"] for task in alice.list()] == ["alice's"]
    assert [task["title"] for task in bob.list()] == ["bob's"]
