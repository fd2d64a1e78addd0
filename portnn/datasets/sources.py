"""The addresses of the full data sets, with the hashes of their files.

Every source serves the same four files; a file is accepted only if it has the SHA-256 given here, so it does not matter
which source serves it, or that some have no https. The sources are tried in this order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

# The names of the images and the labels of each half; ".gz" is added where they are compressed.
TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
HEADER, PIXELS = 16, 28 * 28  # bytes of a file, and of an image


@dataclass(frozen=True)
class Source:
    """A data set online: addresses to append file names to, hashes and sizes by name, the number of samples per half.

    Files without a given size have a bound: compressed, they are hardly longer than uncompressed.
    """

    addresses: tuple[str, ...]
    sha256: Mapping[str, str]
    train: int = 60_000
    test: int = 10_000
    bytes: Mapping[str, int] = field(default_factory=dict)

    def longest(self, name: str) -> int:
        """The most bytes that a file can have."""
        if name in self.bytes:
            return self.bytes[name]
        count = self.train if name.startswith("train") else self.test
        unpacked = HEADER + count * (PIXELS if "images" in name else 1)
        return unpacked + unpacked // 1000 + 1024  # gzip stores what it cannot shorten, with a few bytes for each block


SOURCES = {
    # Handwritten digits. Yann LeCun, Corinna Cortes, Christopher J.C. Burges; CC BY-SA 3.0. Their own site comes last:
    # it often answers 403 or 503.
    "mnist": Source(
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://azureopendatastorage.blob.core.windows.net/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
        ),
        {
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        bytes={
            "train-images-idx3-ubyte.gz": 9_912_422,
            "train-labels-idx1-ubyte.gz": 28_881,
            "t10k-images-idx3-ubyte.gz": 1_648_877,
            "t10k-labels-idx1-ubyte.gz": 4_542,
        },
    ),
    # Pictures of clothes. Han Xiao, Kashif Rasul, Roland Vollgraf (Zalando SE); MIT.
    "fashion_mnist": Source(
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        {
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        bytes={
            "train-images-idx3-ubyte.gz": 26_421_880,
            "train-labels-idx1-ubyte.gz": 29_515,
            "t10k-images-idx3-ubyte.gz": 4_422_102,
            "t10k-labels-idx1-ubyte.gz": 5_148,
        },
    ),
    # Cursive Japanese characters: "KMNIST Dataset" (created by CODH), adapted from "Kuzushiji Dataset" (created by NIJL
    # and others), doi:10.20676/00000341; CC BY-SA 4.0. No other server with these bytes is known to us.
    "kmnist": Source(
        (
            "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        ),
        {
            "train-images-idx3-ubyte.gz": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "train-labels-idx1-ubyte.gz": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "t10k-images-idx3-ubyte.gz": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "t10k-labels-idx1-ubyte.gz": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        },
        bytes={
            "train-images-idx3-ubyte.gz": 18_165_135,
            "train-labels-idx1-ubyte.gz": 29_497,
            "t10k-images-idx3-ubyte.gz": 3_041_136,
            "t10k-labels-idx1-ubyte.gz": 5_120,
        },
    ),
}
