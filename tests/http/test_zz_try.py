import time
from serving import Serving
def test_a(database, tmp_path):
    t=time.monotonic()
    with Serving(database, tmp_path/"p") as s:
        print("start", time.monotonic()-t, s.engine_pids(), s.node_pids())
        t=time.monotonic(); s.kill_engine(); print("kill engine", time.monotonic()-t)
        t=time.monotonic()
        s.stop()
        print("stop", time.monotonic()-t)
        t=time.monotonic(); s.start(); print("restart", time.monotonic()-t)
        t=time.monotonic(); s.kill(); print("kill", time.monotonic()-t)
        s.start()
        print(s.log)
