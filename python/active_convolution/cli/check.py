"""``acu check``: everything it does is in active_convolution.check."""

from . import options

DESCRIPTION = "Compares the layer, forward and all gradients, in float and double, with an oracle in NumPy on random cases."


def parser(prog):
    from ..caffe import locate

    parser = options.Parser(prog, DESCRIPTION)
    parser.add_argument(
        "--cases",
        type=options.integer(1, options.SEEDS),
        default=1000,
        metavar="N",
        help="how many (default: %(default)s)",
    )
    options.seed(parser, "of the first case (default: %(default)s)")
    options.gpu(
        parser,
        "run the layer on this GPU (default: ACTIVE_CONVOLUTION_GPU, else the CPU)",
        default=locate.GPU,
    )
    parser.add_argument(
        "--build",
        type=options.path,
        metavar="DIR",
        default=locate.BUILD,
        help="run the layer of this build, such as build-sanitize (default: %(default)s)",
    )
    return parser


def run(arguments):
    from ..check.cases import TOLERANCE
    from ..check.runner import LayerRunner

    seeds = range(arguments.seed, arguments.seed + arguments.cases)
    failed = 0
    for precision in TOLERANCE:
        with LayerRunner(precision, arguments.gpu, arguments.build) as runner:
            failed += _check_all(seeds, precision, runner)
    print(f"{2 * arguments.cases - failed} passed, {failed} failed")
    return 1 if failed else 0


def _check_all(seeds, precision, runner):
    """Checks all cases in one precision, prints the worst differences, and returns the number of failed cases."""
    from tqdm import tqdm

    from ..check.cases import LARGEST, TOLERANCE, check, random_case

    worst, failed = {}, []
    for seed in tqdm(seeds, desc=precision, unit="case"):
        differences = check(seed, runner)
        for name, difference in differences.items():
            worst[name] = max(worst.get(name, (0, 0)), (difference, seed))
        if max(differences.values()) > TOLERANCE[precision]:
            failed.append(seed)
    for name, (difference, seed) in worst.items():
        print(f"{precision:6} {name:6} worst relative difference {difference:.1e} (case {seed})")
    for seed in failed[:1]:
        print(
            f"case {seed} (--cases 1 --seed {seed}) exceeds {TOLERANCE[precision]} in {precision}:\n"
            f"{random_case(seed, largest=LARGEST).net()}"
        )
    return len(failed)
