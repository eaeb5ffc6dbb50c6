from tests.support.client import Client


def test_it_works(alice: Client) -> None:
    task = alice.create()
    answer = alice.call("GET", task["id"])
    assert answer.status == 200
    assert answer.json == task


def test_head_has_no_body(alice: Client) -> None:
    answer = alice.call("HEAD", alice.create()["id"])
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 100
