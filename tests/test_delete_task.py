import psycopg

from tests.support.client import Client


def test_it_works(alice: Client, sql: psycopg.Connection) -> None:
    task = alice.create()
    answer = alice.call("DELETE", task["id"])
    assert (answer.status, answer.body) == (204, b"")
    assert "Content-Type" not in answer.headers
    assert alice.call("GET", task["id"]).status == 404
    assert sql.execute("SELECT count(*) FROM tasks WHERE user_id = %s", [alice.user_id]).fetchone() == (0,)


def test_a_second_delete_is_a_404(alice: Client) -> None:
    task = alice.create()
    assert [alice.call("DELETE", task["id"]).status for _ in range(2)] == [204, 404]


def test_an_id_is_never_used_again(alice: Client) -> None:
    first = alice.create()
    alice.call("DELETE", first["id"])
    assert alice.create()["id"] > first["id"]


def test_other_tasks_stay(alice: Client) -> None:
    keep, drop = alice.create("keep"), alice.create("drop")
    alice.call("DELETE", drop["id"])
    assert alice.list() == [keep]
