"""The public names and their modules: read by type checkers, and by `__init__.py` at run time."""

from .arguments import PROPOSED as PROPOSED
from .arguments import arguments as arguments
from .arguments import check_call as check_call
from .arguments import check_single as check_single
from .arguments import check_text_encoder as check_text_encoder
from .arguments import given as given
from .callbacks import HostCallback as HostCallback
from .interrupt import InterruptSeam as InterruptSeam
from .interrupt import Window as Window
from .models import check_finite as check_finite
from .models import check_folder as check_folder
from .models import check_variant as check_variant
from .models import explain_missing as explain_missing
from .modules import check_component as check_component
from .modules import own as own
from .modules import refuse_context_parallelism as refuse_context_parallelism
from .modules import refuse_step_cache as refuse_step_cache
from .modules import refuse_tiling as refuse_tiling
from .modules import shadowed as shadowed
from .modules import uncompiled as uncompiled
from .modules import unless_global as unless_global
from .session import appended as appended
from .session import postprocessed as postprocessed
from .wan_vae import DecoderState as DecoderState
from .wan_vae import decode_chunk as decode_chunk
from .wan_vae import denormalised as denormalised
