custom_imports = dict(imports=['mmfocalx'], allow_failed_imports=False)
