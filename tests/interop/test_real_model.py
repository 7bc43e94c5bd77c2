"""A real model, a real stream, a real bill: Bursar records what llama.cpp reported and charges what the book says.

Run by `./test interop`, which brings the services, the model and the executable. Nothing is skipped: what can't run
fails.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import uuid

from bursar import Api, Bursar
from price_by_hand import PriceBook, cached_tokens, ucr
from recording_proxy import Exchange, RecordingProxy

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MODEL = "smollm2-135m"
GRANTED = "1000"
RUN_DEADLINE_S = 240
FINAL = {"succeeded", "failed", "cancelled", "expired"}

WORKFLOW = {
    "workflow": "interop",
    "inputs": {"type": "object", "required": ["subject"], "properties": {"subject": {"type": "string"}}},
    "deadline": "10m",
    "defaults": {"model": MODEL, "max_output_tokens": 16, "timeout": "3m"},
    "agents": {"writer": {"instructions": "You write one short, plain sentence and nothing else.", "temperature": 0}},
    "nodes": {
        "fact": {"agent": "writer", "prompt": "State a fact about {{ inputs.subject }}."},
        "title": {
            "needs": ["fact"],
            "agent": "writer",
            "prompt": "Give this a title: {{ nodes.fact.output }}",
            "max_output_tokens": 8,
        },
    },
    "outputs": {"fact": "nodes.fact.output", "title": "nodes.title.output"},
}

llama: "subprocess.Popen[bytes]"
model: dict[str, str]
program: pathlib.Path


def keep_the_program() -> None:
    """Copies the executable: a build that replaces it in the middle of the tests must not change what is tested."""
    global program
    folder = pathlib.Path(tempfile.mkdtemp(prefix="bursar-interop-program."))
    unittest.addModuleCleanup(shutil.rmtree, folder, ignore_errors=True)
    program = pathlib.Path(shutil.copy2(os.environ["BURSAR_INTEROP_PROGRAM"], folder))
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    if not version.startswith("bursar "):
        raise AssertionError(f"{os.environ['BURSAR_INTEROP_PROGRAM']} is not Bursar: --version printed {version!r}")


def setUpModule() -> None:
    """Starts the model server once for all tests; loading it takes a few seconds."""
    global llama, model
    keep_the_program()
    log = open(pathlib.Path(os.environ["BURSAR_INTEROP_LOGS"]) / "llama.log", "wb")
    llama = subprocess.Popen(
        [sys.executable, HERE / "llama_server.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
    )
    line = llama.stdout.readline()
    log.close()
    if not line:
        raise AssertionError(f"the model server did not start:\n{pathlib.Path(log.name).read_text()[-4000:]}")
    model = json.loads(line)
    print(f"llama.cpp (xllamacpp {model['xllamacpp']}) serves {model['model']}", file=sys.stderr)


def tearDownModule() -> None:
    llama.stdin.close()
    try:
        llama.wait(20)
    except subprocess.TimeoutExpired:
        llama.kill()
    llama.stdout.close()


class RealModel:
    """The tests, once for each storage: subclasses say which database, which queue, which prices."""

    prices: pathlib.Path

    def storage(self) -> dict[str, str]:
        raise NotImplementedError

    def setUp(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bursar-interop."))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.proxy = RecordingProxy(model["url"])
        self.addCleanup(self.proxy.close)
        environment = self.storage() | {
            "OPENAI_BASE_URL": f"{self.proxy.url}/v1",
            "OPENAI_API_KEY": "not-a-secret",
            "BURSAR_PRICES": str(self.prices),
        }
        self.bursar = Bursar(program, self.folder, environment)
        self.addCleanup(self.bursar.stop)
        self.bursar.command("migrate")
        key = json.loads(self.bursar.command("keys", "create", "--tenant", "interop", "--role", "admin", "--json"))
        self.bursar.start()
        self.api = Api(self.bursar.base, key["secret"])
        self.book = PriceBook(self.prices)

    def run_mission(self, subject: str) -> dict:
        submitted = {"workflow": "interop", "input": {"subject": subject}}
        mission = self.api.post("/v1/missions", submitted, Prefer="wait=20")
        deadline = time.monotonic() + RUN_DEADLINE_S
        while mission["status"] not in FINAL and time.monotonic() < deadline:
            mission = self.api.get(f"/v1/missions/{mission['id']}?wait=20")
        if mission["status"] != "succeeded":
            self.fail(f"the mission did not succeed: {json.dumps(mission, indent=1)}\n{self.bursar.said()}")
        return mission

    def test_every_call_is_recorded_as_the_model_reported_it_and_charged_by_the_book(self) -> None:
        granted = self.api.post("/v1/wallet/grants", {"amount": GRANTED, "kind": "paid", "reason": "interop"})
        self.assertEqual(ucr(granted["remaining"]), ucr(GRANTED))
        self.api.put("/v1/workflows/interop", WORKFLOW)
        missions = [self.run_mission(subject) for subject in ("bees", "the Rhône, in français")]

        exchanges = self.proxy.exchanges()
        runs = [self.api.all(f"/v1/runs/{mission['run_id']}/calls") for mission in missions]
        calls = [call for run in runs for call in run]
        self.assertEqual(len(exchanges), len(calls), "every call is recorded, and none is made twice")
        self.assertEqual(len(calls), 2 * len(WORKFLOW["nodes"]))
        for call, exchange in zip(calls, exchanges, strict=True):
            with self.subTest(call=call["id"]):
                self.call_is_what_the_model_reported(call, exchange)
        cached = sum(cached_tokens(exchange.usages[-1]) for exchange in exchanges)
        self.assertGreater(cached, 0, "no call had a cached part, so its price was not shown")

        for mission, run in zip(missions, runs, strict=True):
            with self.subTest(mission=mission["id"]):
                self.mission_was_charged_its_calls_and_its_fee(mission, run)
        self.wallet_adds_up(missions, calls)
        self.assertEqual(self.bursar.stop(), 0, "it stops cleanly when asked")
        self.auditor_finds_nothing(missions, calls)

    def call_is_what_the_model_reported(self, call: dict, exchange: Exchange) -> None:
        self.assertEqual((exchange.status, exchange.complete), (200, True))
        self.assertTrue(exchange.request["stream"] and exchange.request["stream_options"]["include_usage"])
        self.assertGreater(exchange.frames, 3, "it is a stream")
        reported = exchange.usages[-1]
        self.assertEqual((call["status"], call["model"]), ("done", MODEL))
        self.assertEqual((call["billable"], call["estimated"]), (True, False))
        recorded = call["usage"]
        self.assertEqual(recorded["input_tokens"], reported["prompt_tokens"])
        self.assertEqual(recorded["output_tokens"], reported["completion_tokens"])
        self.assertEqual(recorded["cache_read_tokens"], cached_tokens(reported))
        self.assertEqual((recorded["cache_write_tokens"], recorded["reasoning_tokens"]), (0, 0))
        by_hand = self.book.call_ucr(MODEL, reported)
        print(
            f"{type(self).__name__}: {reported['prompt_tokens']} in ({cached_tokens(reported)} cached), "
            f"{reported['completion_tokens']} out: {by_hand} µcr by hand, {call['cost']} recorded, "
            f"{call['first_token_ms']} ms to the first token, {call['duration_ms']} ms in all",
            file=sys.stderr,
        )
        self.assertGreater(by_hand, 0)
        self.assertEqual(ucr(call["cost"]), by_hand)
        self.assertLessEqual(call["first_token_ms"], call["duration_ms"])

    def mission_was_charged_its_calls_and_its_fee(self, mission: dict, calls: list[dict]) -> None:
        fee = ucr(self.book.book["sell"]["flat_fee"])
        self.assertEqual(ucr(mission["fee"]), fee)
        self.assertEqual(ucr(mission["budget"]["spent"]), sum(ucr(call["cost"]) for call in calls) + fee)
        self.assertEqual(ucr(mission["budget"]["held"]), 0)
        tasks = self.api.all(f"/v1/runs/{mission['run_id']}/tasks")
        self.assertEqual([task["node"] for task in tasks], list(WORKFLOW["nodes"]))
        for task in tasks:
            mine = [call for call in calls if call["task_id"] == task["id"]]
            self.assertEqual(ucr(task["cost_credits"]), sum(ucr(call["cost"]) for call in mine))
            self.assertEqual(task["attempt"], 1)
        texts = {exchange.text.strip() for exchange in self.proxy.exchanges()}
        for output in mission["output"].values():
            self.assertIn(output.strip(), texts, "what the workflow hands back is what the model said")

    def wallet_adds_up(self, missions: list[dict], calls: list[dict]) -> None:
        spent = sum(ucr(mission["budget"]["spent"]) for mission in missions)
        wallet = self.api.get("/v1/wallet")
        self.assertEqual(ucr(wallet["available"]) + spent, ucr(GRANTED))
        self.assertEqual((ucr(wallet["held"]), ucr(wallet["debt"])), (0, 0))
        legs = [leg for entry in self.api.all("/v1/wallet/entries") for leg in entry["legs"]]
        used, fees = (sum(ucr(leg["amount"]) for leg in legs if leg["to"] == to) for to in ("usage", "fee"))
        self.assertEqual(used, sum(ucr(call["cost"]) for call in calls))
        self.assertEqual(used + fees, spent)
        self.assertEqual(self.api.all("/v1/wallet/holds"), [])

    def auditor_finds_nothing(self, missions: list[dict], calls: list[dict]) -> None:
        report = json.loads(self.bursar.command("verify", "--json"))
        self.assertEqual((report["clean"], report["violations"]), (True, []))
        figures = report["figures"]
        self.assertEqual(int(figures["usage_calls"]), len(calls))
        self.assertEqual(ucr(figures["credits_used"]), sum(ucr(call["cost"]) for call in calls))
        self.assertEqual(ucr(figures["credits_fees"]), sum(ucr(mission["fee"]) for mission in missions))


class OnPostgresAndRedisAtTheDefaultPrices(RealModel, unittest.TestCase):
    prices = ROOT / "prices" / "default.toml"

    def storage(self) -> dict[str, str]:
        server = os.environ["BURSAR_TEST_DATABASE_URL"]
        name = f"interop_{uuid.uuid4().hex[:12]}"
        psql = pathlib.Path(os.environ["BURSAR_TEST_POSTGRES_BIN"]) / "psql"
        subprocess.run([psql, "-q", "-X", "-c", f"create database {name}", server], check=True)
        url = server.rsplit("/", 1)[0] + f"/{name}"
        return {"DATABASE_URL": url, "REDIS_URL": os.environ["BURSAR_TEST_REDIS_URL"]}


class OnSqliteAtPricesThatDivideBadly(RealModel, unittest.TestCase):
    prices = HERE / "awkward.toml"

    def storage(self) -> dict[str, str]:
        return {"DATABASE_URL": f"sqlite://{self.folder / 'bursar.db'}"}


if __name__ == "__main__":
    unittest.main(verbosity=2)
