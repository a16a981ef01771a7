"""Machine code: functions over addresses (`code.py`), and programs that call them on threads (`program.py`)."""
