from stillframe_client.jaco2.cli import main
def test_x(new_log, capsys):
    f = new_log(inboxes=__import__("conftest_usual", fromlist=["u"]).u) if False else new_log()
    import shutil
    assert main(["replay", str(f)]) == 0
    assert main(["replay", str(f), "--speed", "1"]) == 0
    assert main(["report", str(f), "--out", "/tmp/cli-report"]) == 0
    with capsys.disabled(): print(capsys.readouterr().out)
