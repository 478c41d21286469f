"""Entry point of the ``fedlight`` command; it answers for itself without importing torch."""

from __future__ import annotations

import sys

from fedlight import __version__

HELP = """\
usage: fedlight COMMAND [options]

Train one segmentation model at many institutions without sharing images, and score it at one that took no part.

  init       write a config for your own folders:     fedlight init my_data
  fit        train a federation:             fedlight fit -c configs/quickstart.yaml
  validate   score a run on the sites' validation cases:   fedlight validate --run runs/quickstart
  test       score a run on test cases and at the held-out institution:   fedlight test --run runs/quickstart
  predict    segment images with a run:      fedlight predict --run runs/quickstart --input DIR --output DIR
  export     write a run's model for other programs, with its model card:
             fedlight export --run runs/quickstart --format onnx --output exported
  styles     draw what every style plugin makes of the sites' images:   fedlight styles -c CONFIG [--run RUN]
  benchmark  every algorithm with every site held out in turn:
             fedlight benchmark -c configs/quickstart.yaml --algorithms style_align --output runs/benchmark
  privacy    say what would leave a site, before anything runs:   fedlight privacy -c CONFIG [--output FILE.html]
  audit      attack a run where its data are:   fedlight audit --run runs/quickstart --output audit
  plugins    list methods, or print the card of one:   fedlight plugins [NAME]
  data       look at data before training:   fedlight data check ROOT
             public data sets:               fedlight data list | info NAME | prepare NAME --source DIR --root DIR
  report     report what a benchmark found:  fedlight report runs/retina
  runs       list runs, or compare some:     fedlight runs [DIR]; fedlight runs --compare RUN RUN
  watch      follow a run from another terminal:   fedlight watch RUN
  doctor     can this machine train?         fedlight doctor [-c CONFIG]
  schema     JSON schema of configs, for editors:  fedlight schema > fedlight.schema.json
  completion  completion in the shell:       fedlight completion bash | zsh | tcsh
  deploy     a federation over a network:    fedlight deploy init DIR -c CONFIG; deploy check | serve | node | run DIR

Configs compose (-c data.yaml -c algorithm.yaml) and every setting can be given on the command line
(--federation.rounds 40 --federation.aggregator FedAvgM --federation.plugins+=MixStyle). See also:
  fedlight fit --help        all settings
  fedlight fit -c A.yaml --print_config
  fedlight --version
"""


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code: 0, 1 for a failed run, 2 for a user's mistake."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(HELP)
        return 0
    if arguments[0] == "--version":
        sys.stdout.write(f"fedlight {__version__}\n")
        return 0
    from fedlight import light

    if arguments[0] in light.COMMANDS:
        return light.light(arguments)
    if arguments[0] == "deploy":
        from fedlight.deploy.light import light as deploy

        code = deploy(arguments[1:])
        if code is not None:
            return code
    from fedlight.cli import run  # heavy: torch and Lightning

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
