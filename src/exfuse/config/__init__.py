"""Reading configs. Whatever composes one imports from here, so that Hydra knows the table's defaults and the user's folders."""

import sys

from exfuse.config.search_path import use_words
from exfuse.config.slots import register_slots

register_slots()
use_words(sys.argv[1:])
