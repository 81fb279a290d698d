"""Classification losses and quality-aware heads for the dense detectors of MMDetection.

Importing this package registers them with MMEngine, so that a config needs no more than
``custom_imports = dict(imports=['mmfocalx'], allow_failed_imports=False)``.
"""

from mmfocalx.paths import config_path
from mmfocalx.registration import register
from mmfocalx.version import __version__

__all__ = ['__version__', 'config_path']

register()
